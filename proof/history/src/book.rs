//! The model: one book on a plain shelf, to which one thing happens after the other.

use protocol::catalogue::STOCK_MAX;
use protocol::ids::Index;

use crate::call::Seen;

/// A book as it is between two happenings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shelf {
    /// Price and stock, if the book is there.
    pub(crate) row: Option<Row>,
    /// What is known of its version.
    pub(crate) version: Version,
}

/// What a shelf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) cost_cents: u64,
    pub(crate) quantity: u64,
}

/// The version of a book. A sale is answered without it, so that sometimes only a bound is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// It is this.
    At(Index),
    /// It is above this.
    Above(Index),
}

/// What a call did to a book, or found out about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It was shown like this.
    Shown(Seen),
    /// It was not there.
    Absent,
    /// It was refused because there were just so many copies.
    Only(u64),
    /// It was refused because so many more would have been too many.
    TooMany(u64),
    /// It was changed; and so it was shown afterwards, where the answer tells.
    Changed(Change, Option<Seen>),
}

/// A change of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Change {
    /// So many copies were sold; at this price, where it is known.
    Take { quantity: u64, cost_cents: Option<u64> },
    /// So many copies came, or went.
    Add(i64),
    /// The price was set.
    Price(u64),
    /// The book was put there, new or in place of what was there, where the answer tells which.
    Put { cost_cents: u64, quantity: u64, new: Option<bool> },
    /// It was taken away.
    Remove,
}

impl Version {
    /// Whether it may be this one.
    fn may_be(self, version: Index) -> bool {
        match self {
            Self::At(at) => version == at,
            Self::Above(bound) => version > bound,
        }
    }

    /// The lowest that it may be.
    pub(crate) fn least(self) -> Index {
        match self {
            Self::At(at) => at,
            Self::Above(bound) => bound.next(),
        }
    }

    /// The version after a change of which no more is known.
    fn raised(self) -> Self {
        match self {
            Self::At(at) => Self::Above(at),
            Self::Above(bound) => Self::Above(bound.next()),
        }
    }
}

impl Shelf {
    /// The shelf before the first call.
    pub(crate) fn new(start: Option<Seen>) -> Self {
        match start {
            Some(Seen { cost_cents, quantity, version }) => Self {
                row: Some(Row { cost_cents: cost_cents.unwrap_or_default(), quantity }),
                version: Version::At(version),
            },
            // Nothing has changed it yet: the very first entry of a log may.
            None => Self { row: None, version: Version::At(Index(0)) },
        }
    }

    /// The shelf after something that was seen to happen; `None` if it can't happen here.
    pub(crate) fn after(self, deed: Deed) -> Option<Self> {
        match deed {
            Deed::Shown(seen) => self.shown(seen),
            Deed::Absent => self.row.is_none().then_some(self),
            Deed::Only(available) => self.row.is_some_and(|row| row.quantity == available).then_some(self),
            Deed::TooMany(more) => {
                self.row.is_some_and(|row| row.quantity.saturating_add(more) > STOCK_MAX).then_some(self)
            }
            Deed::Changed(change, shown) => {
                let changed = Self { row: self.changed(change)?, version: self.version.raised() };
                shown.map_or(Some(changed), |seen| changed.shown(seen))
            }
        }
    }

    /// Whether it is as it was shown; what was shown may tell the version.
    fn shown(self, seen: Seen) -> Option<Self> {
        let row = self.row?;
        let fits = row.quantity == seen.quantity && seen.cost_cents.is_none_or(|cost| cost == row.cost_cents);
        fits.then_some(self)?.at(seen.version)
    }

    /// The same, if this may be its version.
    pub(crate) fn at(self, version: Index) -> Option<Self> {
        self.version.may_be(version).then_some(Self { version: Version::At(version), ..self })
    }

    fn changed(self, change: Change) -> Option<Option<Row>> {
        let row = match change {
            Change::Put { cost_cents, quantity, new } => {
                if new.is_some_and(|new| new == self.row.is_some()) {
                    return None;
                }
                Row { cost_cents, quantity }
            }
            Change::Remove => return self.row.map(|_| None),
            Change::Price(cost_cents) => Row { cost_cents, ..self.row? },
            Change::Add(amount) => {
                let row = self.row?;
                let quantity = row.quantity.checked_add_signed(amount).filter(|sum| *sum <= STOCK_MAX)?;
                Row { quantity, ..row }
            }
            Change::Take { quantity, cost_cents } => {
                let row = self.row?;
                if cost_cents.is_some_and(|cost| cost != row.cost_cents) {
                    return None;
                }
                Row { quantity: row.quantity.checked_sub(quantity)?, ..row }
            }
        };
        Some(Some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(quantity: u64, cost_cents: u64, version: u64) -> Seen {
        Seen { cost_cents: Some(cost_cents), quantity, version: Index(version) }
    }

    #[test]
    fn a_sale_hides_the_version_and_a_look_tells_it() {
        let shelf = Shelf::new(Some(seen(5, 100, 7)));
        let sale = Deed::Changed(Change::Take { quantity: 2, cost_cents: Some(100) }, None);
        let sold = shelf.after(sale).and_then(|shelf| shelf.after(sale)).unwrap();
        // Two changes after version 7 make at least version 9.
        assert_eq!(sold.after(Deed::Shown(seen(1, 100, 8))), None);
        let known = sold.after(Deed::Shown(seen(1, 100, 9))).unwrap();
        assert_eq!(known.version, Version::At(Index(9)));
        assert_eq!(known.after(Deed::Shown(seen(1, 100, 10))), None);
        assert_eq!(sold.after(sale), None, "there is only one copy left");
    }

    #[test]
    fn what_is_not_there_can_only_be_put_there() {
        let empty = Shelf::new(None);
        for change in [
            Change::Remove,
            Change::Price(1),
            Change::Add(1),
            Change::Take { quantity: 1, cost_cents: None },
            Change::Put { cost_cents: 1, quantity: 1, new: Some(false) },
        ] {
            assert_eq!(empty.after(Deed::Changed(change, None)), None, "{change:?}");
        }
        let put = Change::Put { cost_cents: 1, quantity: 1, new: Some(true) };
        let there = empty.after(Deed::Changed(put, Some(seen(1, 1, 4)))).unwrap();
        assert_eq!(there.after(Deed::Changed(put, None)), None, "it is not new");
        assert_eq!(there.after(Deed::Absent), None);
        assert_eq!(there.after(Deed::Only(0)), None);
        assert!(there.after(Deed::Only(1)).is_some());
        assert_eq!(there.after(Deed::TooMany(1)), None);
        assert!(there.after(Deed::TooMany(STOCK_MAX)).is_some());
    }
}
