//! The API's own description, for people and for programs: fixed pages, compiled in.

use axum::response::IntoResponse;
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::route::Route;

/// The description for programs, in the third version of the form that most of them read.
pub(super) const OPENAPI: &str = include_str!("../../assets/openapi.json");
/// The description for people.
const DOCS: &str = include_str!("../../assets/docs.html");

/// The page has no scripts and loads nothing, and its browser is told so.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
/// The pages change only with the program.
const KEPT: (HeaderName, &str) = (CACHE_CONTROL, "max-age=60");

pub(super) fn routes() -> Vec<Route> {
    vec![Route::at("/openapi.json").read(openapi), Route::at("/docs").read(docs)]
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json"), KEPT], OPENAPI)
}

async fn docs() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY), KEPT];
    (headers, DOCS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_people_names_every_path_and_loads_nothing() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        for path in description["paths"].as_object().unwrap().keys() {
            assert!(DOCS.contains(path.as_str()), "{path}");
        }
        for outside in ["http://", "https://", "<script", "<img", "<link", "url("] {
            assert!(!DOCS.contains(outside), "{outside}");
        }
    }
}
