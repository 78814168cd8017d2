//! Which replica gets the next read (being written).

/// How the next replica is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest reads under way.
    LeastConnections,
    /// The one that answered fastest of late.
    LeastResponseTime,
}
