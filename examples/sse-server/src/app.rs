//! Routes, limits, and errors in JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::broadcast::{Broadcaster, Full, MISSING, Outcome};
use crate::metrics::{self, Metrics};
use crate::page::Page;
use crate::sse;
use crate::view::{Feed, Observer, View};

/// The longest name of a session, in bytes of UTF-8 after decoding.
pub const MAX_SESSION_BYTES: usize = 128;
/// An event must be here within this time.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pages that watch at once.
const MAX_WATCHERS: usize = 256;
/// After 503.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

pub struct App {
    broadcaster: Arc<Broadcaster>,
    observer: Arc<Observer>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    watchers: Arc<Semaphore>,
    page: Page,
    /// The most bytes of an event, encoded.
    max_event: usize,
    stop: CancellationToken,
}

impl App {
    /// Also begins to take a view a second. Must be called within a runtime.
    pub fn start(
        broadcaster: Arc<Broadcaster>,
        args: &Args,
        stop: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let observer = Observer::new(Arc::clone(&broadcaster), args.idle_ttl(), args.demo);
        let observer = Arc::new(observer);
        let feed = Feed::start(Arc::clone(&observer), stop.clone());
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        let metrics = Arc::new(Metrics::new(Arc::clone(&broadcaster), args.linger)?);
        let page = Page::new();
        let max_event = args.max_event as usize;
        Ok(Arc::new(Self { broadcaster, observer, feed, metrics, watchers, page, max_event, stop }))
    }
}

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events", get(events).head(events_head))
        .route("/events/", get(events).head(events_head))
        .route("/events/{session}", get(events).head(events_head))
        .route("/publish", post(publish_to_all))
        .route("/publish/", post(publish))
        .route("/publish/{session}", post(publish))
        .route("/metrics", get(metrics_text))
        .route("/api/snapshot", get(snapshot))
        .route("/api/live", get(live))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal::of(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Refusal::of(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
        })
        .layer(middleware::from_fn(from_here))
        .layer(DefaultBodyLimit::max(app.max_event))
        .with_state(app)
}

async fn page(State(app): State<Arc<App>>) -> Response {
    app.page.response()
}

async fn events(State(app): State<Arc<App>>, session: Session) -> Result<Response, Refusal> {
    let events = app.broadcaster.join(&session.0)?;
    Ok(sse::response(events, app.stop.clone()))
}

/// Without joining: a client that leaves at once would clear the counters of its session.
async fn events_head(_: Session) -> impl IntoResponse {
    [(header::CONTENT_TYPE, sse::CONTENT_TYPE)]
}

async fn publish(
    State(app): State<Arc<App>>,
    session: Session,
    Event(event): Event,
) -> Json<Outcome> {
    Json(app.broadcaster.publish(&session.0, &event))
}

async fn publish_to_all(State(app): State<Arc<App>>, Event(event): Event) -> Json<Outcome> {
    Json(app.broadcaster.publish_to_all(&event))
}

async fn metrics_text(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let metrics = Arc::clone(&app.metrics);
    let text = off_the_executor(move || metrics.text()).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn snapshot(State(app): State<Arc<App>>) -> Result<Json<View>, Refusal> {
    let observer = Arc::clone(&app.observer);
    off_the_executor(move || observer.view()).await.map(Json)
}

async fn live(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let place =
        Arc::clone(&app.watchers).try_acquire_owned().map_err(|_| Refusal::full("pages"))?;
    let views = app.feed.watch().map(move |frame| {
        let _held = &place;
        frame
    });
    Ok(sse::response(views, app.stop.clone()))
}

/// For what reads the whole store.
async fn off_the_executor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |_| Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot failed");
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// Refuses what a page of another site sends from a visitor's browser.
async fn from_here(request: Request<Body>, next: Next) -> Response {
    let headers = request.headers();
    let elsewhere = headers.get(header::ORIGIN).is_some_and(|origin| {
        !headers.get(header::HOST).is_some_and(|host| is_origin_of(origin, host))
    });
    if request.method() == Method::POST && elsewhere {
        let message = "a page of another origin may not publish here";
        return Refusal::of(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

/// Whatever the scheme is: behind a proxy the browser's may be another than the server's.
fn is_origin_of(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

/// The session that the path names; [`MISSING`] if it names none.
struct Session(String);

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let name = Option::<Path<String>>::from_request_parts(parts, state).await;
        let name = name.map_err(|rejection| Refusal::of(rejection.status(), rejection))?;
        let Some(Path(name)) = name.filter(|Path(name)| !name.is_empty()) else {
            return Ok(Self(MISSING.to_owned()));
        };
        let bad = |message: String| Err(Refusal::of(StatusCode::BAD_REQUEST, message));
        if name.len() > MAX_SESSION_BYTES {
            let is = name.len();
            return bad(format!(
                "a session's name has at most {MAX_SESSION_BYTES} bytes, not {is}"
            ));
        }
        if name.contains(char::is_control) {
            return bad("a session's name has no control characters".to_owned());
        }
        Ok(Self(name))
    }
}

/// The body, encoded for the stream.
struct Event(Bytes);

impl FromRequest<Arc<App>> for Event {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Refusal> {
        let body = tokio::time::timeout(EVENT_TIMEOUT, Bytes::from_request(request, app)).await;
        let body =
            body.map_err(|_| Refusal::of(StatusCode::REQUEST_TIMEOUT, "the event is late"))?;
        let body = body.map_err(|rejection| match rejection.status() {
            // Encoded it would only be longer.
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(app),
            status => Refusal::of(status, rejection),
        })?;
        let bad = |message| Refusal::of(StatusCode::BAD_REQUEST, message);
        let text = str::from_utf8(&body).map_err(|_| bad("an event is text in UTF-8"))?;
        if text.is_empty() {
            // Browsers would not dispatch it.
            return Err(bad("an event must not be empty"));
        }
        // Before it is encoded: a body of line feeds becomes seven times as long.
        if sse::event_len(text) > app.max_event {
            return Err(Refusal::too_large(app));
        }
        Ok(Self(sse::event(text)))
    }
}

/// An error, as JSON with one field.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn of(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string() }
    }

    fn too_large(app: &App) -> Self {
        let most = app.max_event;
        let message = format!(
            "an event has at most {most} bytes as it goes out, with \"data: \" before each line"
        );
        Self::of(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    fn full(of: &str) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, format!("too many {of} are connected"))
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::full("clients")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}
