//! What the front ends say of the store.

use std::time::Duration;

use common::api::{Role, Status};
use reqwest::Client;

use crate::addresses;
use crate::failure::Failure;
use crate::store::Store;

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A front end that can be asked.
#[derive(Debug)]
pub(crate) struct FrontEnd {
    /// Its name in the configuration.
    pub(crate) id: String,
    /// Its public listener.
    pub(crate) url: String,
}

/// Those front ends of a store whose address is known.
pub(crate) fn all(store: &Store) -> Vec<FrontEnd> {
    let nodes = store.nodes.iter().filter(|node| node.role == Role::Frontend);
    nodes
        .filter_map(|node| {
            let address = addresses::main(&store.layout, node)?;
            Some(FrontEnd { id: node.id.as_str().to_owned(), url: addresses::url(&address) })
        })
        .collect()
}

/// Asks front ends.
#[derive(Clone, Debug)]
pub(crate) struct Asker(Client);

impl Asker {
    /// One that reuses its connections.
    ///
    /// # Errors
    /// If the HTTP client can't be made.
    pub(crate) fn new() -> Result<Self, Failure> {
        // A proxy of the environment is for the world outside.
        let client = Client::builder().no_proxy().timeout(TIMEOUT).build();
        client.map(Self).map_err(|error| Failure::Failed(format!("cannot make an HTTP client: {error}")))
    }

    /// Nothing if the front end is ready, else why it is not.
    pub(crate) async fn not_ready(&self, front_end: &FrontEnd) -> Option<String> {
        let id = &front_end.id;
        let Ok(answer) = self.0.get(format!("{}/readyz", front_end.url)).send().await else {
            return Some(format!("{id} does not answer"));
        };
        if answer.status().is_success() {
            return None;
        }
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap_or_default();
        Some(format!("{id} is not ready ({status}: {})", reason(&body)))
    }

    /// The body of `/status` as it came; none if the front end does not answer.
    pub(crate) async fn status_text(&self, front_end: &FrontEnd) -> Option<String> {
        let answer = self.0.get(format!("{}/status", front_end.url)).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }

    /// The status; none if the front end does not answer with one.
    pub(crate) async fn status(&self, front_end: &FrontEnd) -> Option<Status> {
        serde_json::from_str(&self.status_text(front_end).await?).ok()
    }
}

/// What a body says, in one line: the detail of a problem, or the body itself.
fn reason(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = json.as_ref().and_then(|json| json.get("detail")?.as_str());
    let line = detail.unwrap_or(body).split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_whatever_the_body_is() {
        for (body, expected) in [
            (r#"{"title":"x","detail":"no member of shard 0"}"#, "no member of shard 0"),
            ("waiting\nfor  catalog-1\n", "waiting for catalog-1"),
            (r#"{"detail":7}"#, r#"{"detail":7}"#),
            ("", ""),
        ] {
            assert_eq!(reason(body), expected);
        }
    }
}
