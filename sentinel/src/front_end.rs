//! What the front ends say of the store.

use std::path::PathBuf;
use std::time::Duration;

use common::api::{Role, Status};
use reqwest::Client;
use rustix::process::Pid;

use crate::failure::Failure;
use crate::store::Store;
use crate::{addresses, identity};

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A front end that can be asked.
#[derive(Debug)]
pub(crate) struct FrontEnd {
    /// Its name in the configuration.
    pub(crate) id: String,
    /// Its public listener.
    pub(crate) url: String,
    /// Its configuration, if it is on this machine.
    config: Option<PathBuf>,
}

impl FrontEnd {
    /// Whether it is the one that has told a status: another store's may have taken its port. One on another machine
    /// is taken at its word.
    fn has_told(&self, status: &Status) -> bool {
        let Some(config) = &self.config else { return true };
        let told = status.nodes.iter().find(|node| node.id == self.id).and_then(|node| node.pid);
        let pid = told.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        pid.is_some_and(|pid| identity::is_node_of(pid, config, &self.id))
    }
}

/// Those front ends of a store whose address is known.
pub(crate) fn all(store: &Store) -> Vec<FrontEnd> {
    let nodes = store.nodes.iter().filter(|node| node.role == Role::Frontend);
    nodes
        .filter_map(|node| {
            let address = addresses::main(&store.layout, node)?;
            let (id, url) = (node.id.as_str().to_owned(), addresses::url(&address));
            let config = node.host.is_none().then(|| store.config.path.clone());
            Some(FrontEnd { id, url, config })
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

    /// The body of `/status` as it came, and what it says; none if the front end does not answer, or if another
    /// store's answers in its place.
    pub(crate) async fn status(&self, front_end: &FrontEnd) -> Option<(String, Status)> {
        let answer = self.0.get(format!("{}/status", front_end.url)).send().await.ok()?;
        let text = answer.error_for_status().ok()?.text().await.ok()?;
        let status = serde_json::from_str(&text).ok()?;
        front_end.has_told(&status).then_some((text, status))
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
