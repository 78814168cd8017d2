//! What may go wrong, and how often: the bounds that keep the number of states finite.

/// How often each thing may happen on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Writes asked for, retries included.
    pub submits: u8,
    /// Misses, those that join a flight included.
    pub reads: u8,
    /// Nodes that die.
    pub node_crashes: u8,
    /// Nodes that die and come back with an empty disk.
    pub disks_replaced: u8,
    /// Steps that a disk fails to carry out.
    pub disk_failures: u8,
    /// Front ends that die.
    pub front_crashes: u8,
    /// View stores that are lost, together with the front end.
    pub store_losses: u8,
    /// Swaps whose end is not known.
    pub swaps_unknown: u8,
    /// Connections that break between living processes.
    pub breaks: u8,
    /// Whether what was on its way over a connection that broke may arrive later; else it is lost.
    pub lingers: bool,
    /// Messages that arrive twice.
    pub repeats: u8,
    /// Members that a front end takes for gone or silent though they live.
    pub suspicions: u8,
    /// Deadlines of a writer that pass.
    pub writer_ticks: u8,
    /// Deadlines of a replica that pass.
    pub node_ticks: u8,
}

impl Budget {
    /// In words: what is not zero.
    #[must_use]
    pub fn describe(&self) -> String {
        let parts = [
            (self.submits, "writes"),
            (self.reads, "reads"),
            (self.node_crashes, "node crashes"),
            (self.disks_replaced, "disks replaced"),
            (self.disk_failures, "disk failures"),
            (self.front_crashes, "front end crashes"),
            (self.store_losses, "view stores lost"),
            (self.swaps_unknown, "swaps unknown"),
            (self.breaks, "connections broken"),
            (self.repeats, "messages repeated"),
            (self.suspicions, "false suspicions"),
            (self.writer_ticks, "writer deadlines"),
            (self.node_ticks, "replica deadlines"),
        ];
        let mut words: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what} {n}")).collect();
        if self.lingers {
            words.push("late messages arrive".to_owned());
        }
        words.join(", ")
    }
}
