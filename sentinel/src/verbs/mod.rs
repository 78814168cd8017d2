//! What people can ask for, a file per verb.

pub(crate) mod clean;
pub(crate) mod down;
mod launch;
pub(crate) mod logs;
pub(crate) mod order;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod up;

use crate::control::client::Control;
use crate::failure::Failure;
use crate::running::{self, Running, Supervisor};
use crate::store::Store;

/// The supervisor of the store, if one runs.
async fn supervisor(store: &Store) -> Result<Option<Supervisor>, Failure> {
    let found =
        running::settled(&store.layout).await.map_err(Failure::io("cannot see whether the store runs"))?;
    match found {
        Running::No => Ok(None),
        Running::Yes(supervisor) => Ok(Some(supervisor)),
        Running::Starting => {
            Err(Failure::Failed("the sentinel is starting and does not answer yet".to_owned()))
        }
    }
}

/// The control channel of the supervisor, if one runs.
async fn control(store: &Store) -> Result<Option<Control>, Failure> {
    match supervisor(store).await? {
        Some(supervisor) => Ok(Some(Control::new(&supervisor, store.secret()?)?)),
        None => Ok(None),
    }
}
