//! Server-Sent Events on the wire:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, CACHE_CONTROL, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

/// A stream with nothing to say sends a comment this often, so that neither side takes the
/// connection for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
pub const CONTENT_TYPE: &str = "text/event-stream";
const FIELD: &str = "data: ";
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Browsers try again after a second.
const GREETING: Bytes = Bytes::from_static(b"retry: 1000\n: connected\n\n");

/// One event, encoded once for all clients: a clone shares the bytes.
pub fn event(data: &str) -> Bytes {
    encode("", data)
}

/// The length of [`event`], in bytes: up to about seven times that of the data.
pub fn event_len(data: &str) -> usize {
    encoded_len("", data)
}

/// As [`event`], with a type. The name has no line breaks.
pub fn named(name: &'static str, data: &str) -> Bytes {
    encode(&format!("event: {name}\n"), data)
}

/// A line break in the data would end the field: each line is a field of its own, and the browser
/// joins them again.
fn encode(head: &str, data: &str) -> Bytes {
    // Exactly: what waits for clients takes no more than its length.
    let mut frame = String::with_capacity(encoded_len(head, data));
    frame.push_str(head);
    for line in lines(data) {
        frame.push_str(FIELD);
        frame.push_str(line);
        frame.push('\n');
    }
    frame.push('\n');
    frame.into()
}

fn encoded_len(head: &str, data: &str) -> usize {
    let fields: usize = lines(data).map(|line| FIELD.len() + line.len() + 1).sum();
    head.len() + fields + 1
}

/// As a browser ends them: at a line feed, a carriage return, or both.
fn lines(data: &str) -> impl Iterator<Item = &str> {
    data.split("\r\n").flat_map(|part| part.split(['\n', '\r']))
}

/// A stream of events. When the server stops, it has what is there, and ends.
pub fn response(
    events: impl Stream<Item = Bytes> + Send + 'static,
    stop: CancellationToken,
) -> Response {
    let beat = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let beaten = tokio_stream::StreamExt::timeout_repeating(events, beat);
    let beaten = beaten.map(|next| next.unwrap_or(COMMENT));
    let frames = stream::iter([GREETING]).chain(beaten);
    let frames = end_with(frames, stop.cancelled_owned()).map(Ok::<_, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (CACHE_CONTROL, "no-cache"),
        // For nginx, which would hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

/// As `take_until`, which would also drop what is ready.
fn end_with<S: Stream>(stream: S, end: impl Future<Output = ()>) -> impl Stream<Item = S::Item> {
    let (mut stream, mut end) = (Box::pin(stream), Box::pin(end));
    stream::poll_fn(move |context| match stream.poll_next_unpin(context) {
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
        ready => ready,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_fields() {
        assert_eq!(event("hello"), "data: hello\n\n");
        assert_eq!(event("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
        assert_eq!(named("tick", "{}"), "event: tick\ndata: {}\n\n");
    }

    #[test]
    fn a_frame_takes_its_length_and_no_more() {
        for data in ["x", "", "a\nb\r\nc\rd\n", "\r\r\n\n\r", &"\n".repeat(1000), "\u{e9}\r\u{e9}"]
        {
            let frame = event(data);
            assert_eq!(frame.len(), event_len(data), "{data:?}");
            assert_eq!(frame.try_into_mut().unwrap().capacity(), event_len(data), "{data:?}");
        }
        assert_eq!(event_len(&"\n".repeat(1000)), 7 * 1001 + 1);
    }

    /// Whatever is published, a client sees one event, and no field of another kind.
    #[test]
    fn data_cannot_become_another_field() {
        for hostile in ["x\nevent: forged", "x\r\rdata: forged", "x\n\nid: 1", "\n\n"] {
            let frame = event(hostile);
            let text = std::str::from_utf8(&frame).unwrap();
            let fields = text.strip_suffix("\n\n").unwrap();
            assert!(fields.split('\n').all(|line| line.starts_with("data: ")), "{text:?}");
            assert!(!text.contains('\r'));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments_until_the_end() {
        let stop = CancellationToken::new();
        let body = response(stream::pending(), stop.clone()).into_body();
        let mut frames = body.into_data_stream();
        assert_eq!(frames.next().await.unwrap().unwrap(), GREETING);
        let begun = Instant::now();
        for n in 1..4 {
            assert_eq!(frames.next().await.unwrap().unwrap(), COMMENT);
            assert_eq!(begun.elapsed().as_secs(), n * KEEP_ALIVE.as_secs());
        }
        stop.cancel();
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_there_at_the_end_is_still_sent() {
        let stop = CancellationToken::new();
        stop.cancel();
        let events = stream::iter([event("a"), event("b")]).chain(stream::pending());
        let sent: Vec<_> = response(events, stop).into_body().into_data_stream().collect().await;
        let sent: Vec<_> = sent.into_iter().map(|frame| frame.unwrap()).collect();
        assert_eq!(sent, [GREETING, event("a"), event("b")]);
    }
}
