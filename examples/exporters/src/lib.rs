#![doc = include_str!("../../../docs/EXPORTERS.md")]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

/// The text that an app answers with, for the examples above.
///
/// # Panics
///
/// If it does not answer with text.
pub async fn get(app: Router, path: &str) -> String {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = app.oneshot(request).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(body.into()).expect("text")
}

/// The code in `docs/ASYNC.md`.
#[doc = include_str!("../../../docs/ASYNC.md")]
pub mod in_async {}
