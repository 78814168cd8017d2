//! What two or more of the services use: configuration, the bodies of the REST API, the framed links
//! between processes, heartbeats, secrets, logging and the way to stop.
//!
//! Whatever only one service uses lives in that service.

pub mod api;
pub mod backup;
pub mod clock;
pub mod config;
pub mod exit;
pub mod heartbeat;
pub mod link;
pub mod process;
pub mod records;
pub mod runfile;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
