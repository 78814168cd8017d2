//! `/events`: how the store stands, each second and on each change, and every happening, as server-sent
//! events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use common::shutdown::Shutdown;
use futures_util::{Stream, stream};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Interval, MissedTickBehavior};

use super::route::Route;
use crate::app::App;
use crate::happenings;

/// How often the status is sent when nothing happens.
const STATUS_EVERY: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Vec<Route> {
    vec![Route::at("/events").read(events)]
}

async fn events(State(app): State<App>, Extension(shutdown): Extension<Shutdown>) -> Response {
    let mut every = tokio::time::interval(STATUS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let happenings = app.events();
    let feed = Feed { app, shutdown, happenings, every, ready: VecDeque::new() };
    let mut response = Sse::new(feed.into_stream()).keep_alive(KeepAlive::new()).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What one listener is sent.
struct Feed {
    app: App,
    shutdown: Shutdown,
    happenings: Receiver<happenings::Event>,
    every: Interval,
    /// Bounded by what the receiver keeps, plus one status.
    ready: VecDeque<Event>,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut feed| async move {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        })
    }

    /// The next event; none once the front end stops.
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        tokio::select! {
            () = self.shutdown.wait() => return None,
            _ = self.every.tick() => {}
            told = self.happenings.recv() => {
                match told {
                    Ok(happening) => self.ready.extend(event_of(happening.name, &happening.data)),
                    Err(RecvError::Lagged(missed)) => self.ready.push_back(lost(missed)),
                    Err(RecvError::Closed) => return None,
                }
                self.take_the_rest();
            }
        }
        // A change shows in the status; so does that nothing has changed.
        let status = Event::default().event("status").json_data(self.app.status());
        self.ready.extend(status.ok());
        self.ready.pop_front()
    }

    /// What happened together is followed by one status, not by one each.
    fn take_the_rest(&mut self) {
        loop {
            match self.happenings.try_recv() {
                Ok(happening) => self.ready.extend(event_of(happening.name, &happening.data)),
                Err(TryRecvError::Lagged(missed)) => self.ready.push_back(lost(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

/// JSON text has no line breaks of its own, so it always fits into an event.
fn event_of(name: &str, data: &serde_json::Value) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}

fn lost(missed: u64) -> Event {
    Event::default().comment(format!("{missed} events were lost: this listener is too slow"))
}
