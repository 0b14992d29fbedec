//! HTTP over TCP, with limits on what a connection may cost.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A request's head must be here within this time; so must the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The most a request's head may be, and about the most that is buffered for a client that does not
/// read, beside its events: 400 KB by hyper's default.
const CONNECTION_BUFFER: usize = 16 * 1024;
/// A peer that takes not one byte of what is to be sent, for so long, is cut off. Slow is allowed.
const SEND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long open connections may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// After an error such as too many open files.
const BREATH: Duration = Duration::from_millis(200);

/// Serves at most `most` connections at once, until `stop`; then lets open requests end. Any more
/// connections wait in the system's queue.
pub async fn serve(listener: TcpListener, app: Router, most: usize, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(CONNECTION_BUFFER);
    let connections = GracefulShutdown::new();
    let service = TowerToHyperService::new(app);
    let places = Arc::new(Semaphore::new(most));
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place.expect("it is never closed"), listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // An event is small and should go out at once. If this fails, the connection is gone.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(SEND_TIMEOUT));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "a connection broke");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.shutdown()).await.is_err() {
        warn!("some clients did not read to the end: they are cut off");
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn answer(client: &mut TcpStream) -> Vec<u8> {
        let mut answer = vec![0; 1024];
        let length = client.read(&mut answer).await.unwrap();
        answer.truncate(length);
        answer
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_for_another_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/", get(|| async { "here" }));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, app, 1, stop.clone()));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut first).await.ends_with(b"here"));
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        // Time enough to answer the second, if it were served.
        for _ in 0..100 {
            first.write_all(REQUEST).await.unwrap();
            assert!(answer(&mut first).await.ends_with(b"here"));
        }
        let early = second.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        drop(first);
        assert!(answer(&mut second).await.ends_with(b"here"));
        // While it waits for a place it can still be stopped.
        stop.cancel();
        server.await.unwrap();
    }

    /// The clock is paused: it goes on when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn who_never_reads_does_not_keep_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // More than the sockets take.
        let large = || async { vec![b'x'; 64 << 20] };
        let app = Router::new().route("/large", get(large)).route("/", get(|| async { "here" }));
        tokio::spawn(serve(listener, app, 1, CancellationToken::new()));
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stuck.readable().await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let answer = tokio::time::timeout(SEND_TIMEOUT * 10, answer(&mut second)).await.unwrap();
        assert!(answer.ends_with(b"here"));
    }
}
