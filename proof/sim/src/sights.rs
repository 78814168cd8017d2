//! What is seen in runs: a fault that never does anything, and a judge that is never asked, prove nothing. The tests
//! look whether each of these is seen.

/// Something that some runs must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// What a front end and an order node said to each other was lost.
    OrderMessageLost,
    /// It was held up until a stall ended.
    OrderMessageStalled,
    /// It came once more, late.
    OrderMessageRepeated,
    /// A loss of power took orders out of a book that had been entered.
    OrdersUnsynced,
    /// A front end was judged by what all others had told, on a day when others compete with it.
    ReadAmongFronts,
    /// One that had lost its place was judged by what it had committed or shown itself.
    ReadOfDisplaced,
    /// A read was judged after a row of a replica had been changed from outside.
    ReadBesideSpoiltRow,
    /// The second judge knew which book was put without an id.
    NamelessPutTold,
    /// It never came to know.
    NamelessPutUntold,
}

impl Sight {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OrderMessageLost,
        Self::OrderMessageStalled,
        Self::OrderMessageRepeated,
        Self::OrdersUnsynced,
        Self::ReadAmongFronts,
        Self::ReadOfDisplaced,
        Self::ReadBesideSpoiltRow,
        Self::NamelessPutTold,
        Self::NamelessPutUntold,
    ];
}

/// How often each was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sights([u64; Sight::ALL.len()]);

impl Sights {
    pub(crate) fn add(&mut self, sight: Sight) {
        self.0[sight as usize] += 1;
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, more)| *count += more);
    }

    /// How often it was seen.
    #[must_use]
    pub fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize]
    }
}
