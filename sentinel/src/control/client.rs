//! The verbs' end of the control channel.

use std::time::Duration;

use common::secret::Secret;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use super::{Action, NodeReport, Overview, Refusal};
use crate::running::Supervisor;

/// For answers that need no work.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// For an action: a stop may take its whole grace, and wait for another one that was asked for before.
const ACT_TIMEOUT: Duration = Duration::from_secs(60);

/// The supervisor refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// No answer.
    #[error("the sentinel does not answer")]
    Silent(#[source] reqwest::Error),
    /// It won't.
    #[error("{0}")]
    Refused(String),
}

/// A supervisor to talk to.
#[derive(Debug)]
pub(crate) struct Control {
    client: Client,
    base: String,
    secret: Secret,
}

impl Control {
    /// Talks to this supervisor.
    ///
    /// # Errors
    /// If the HTTP client can't be made.
    pub(crate) fn new(supervisor: &Supervisor, secret: Secret) -> Result<Self, ControlError> {
        // A proxy of the environment is for the world outside, and must not see the secret.
        let client = Client::builder().no_proxy().build().map_err(ControlError::Silent)?;
        Ok(Self { client, base: format!("http://{}", supervisor.address), secret })
    }

    /// What the supervisor knows.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn overview(&self) -> Result<Overview, ControlError> {
        self.call(self.client.get(format!("{}/nodes", self.base)).timeout(LOOK_TIMEOUT)).await
    }

    /// Has an action done; the answer comes when it is.
    ///
    /// # Errors
    /// If the supervisor refuses or does not answer.
    pub(crate) async fn act(&self, id: &str, action: Action) -> Result<NodeReport, ControlError> {
        let url = format!("{}/nodes/{id}/{}", self.base, action.name());
        self.call(self.client.post(url).timeout(ACT_TIMEOUT)).await
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ControlError> {
        let answer = request.bearer_auth(self.secret.expose()).send().await.map_err(ControlError::Silent)?;
        if answer.status().is_success() {
            return answer.json().await.map_err(ControlError::Silent);
        }
        let status = answer.status();
        let detail = answer.json::<Refusal>().await.map_or_else(|_| status.to_string(), |body| body.detail);
        Err(ControlError::Refused(detail))
    }
}
