//! The way to stop: one signal that every task of a process can wait for.
//!
//! `main` makes the pair, hands clones of [`Shutdown`] to whoever runs for long, and calls
//! [`Trigger::fire`] on SIGTERM or SIGINT. Whoever waits sees it also when it comes late to waiting.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The end that says stop. Dropping it says stop as well.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// The end that waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A signal that has not been given.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Says stop.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once stop has been said.
    pub async fn wait(&mut self) {
        // An error means that the trigger was dropped, which says stop as well.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// Whether stop has been said.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Returns on the first SIGTERM or SIGINT, with its name.
///
/// # Errors
/// If the handlers can't be installed.
pub async fn termination() -> std::io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
