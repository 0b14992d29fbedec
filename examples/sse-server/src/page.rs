//! The page, and a policy that lets nothing run but what is in it.

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("page.html");

/// The content security policy of [`PAGE`], with the hashes of its script and its style.
pub struct Page {
    policy: HeaderValue,
}

impl Page {
    pub fn new() -> Self {
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(between("<script>", "</script>")),
            hash(between("<style>", "</style>")),
        );
        let policy = HeaderValue::try_from(policy).expect("hashes in base64 are ASCII");
        Self { policy }
    }

    pub fn response(&self) -> Response {
        let headers = [
            (CONTENT_SECURITY_POLICY, self.policy.clone()),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        (headers, Html(PAGE)).into_response()
    }
}

fn between(open: &str, close: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(open).expect("the page has one of each");
    rest.split_once(close).expect("the page has one of each").0
}

fn hash(content: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy allows no more: a second script or a `style` attribute would not run.
    #[test]
    fn the_page_is_one_script_one_style_and_nothing_from_elsewhere() {
        for tag in ["<script", "</script>", "<style", "</style>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        for forbidden in
            [" style=\"", " onclick=", "innerHTML", "outerHTML", "insertAdjacent", "@import"]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let policy = Page::new().policy;
        assert!(!policy.to_str().unwrap().contains("unsafe"));
    }
}
