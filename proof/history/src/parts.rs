//! A history cut into one part for each book.

use std::collections::BTreeMap;

use protocol::ids::{BookId, Index};

use crate::book::{Change, Deed, Shelf};
use crate::call::{Answer, Call, NewRow, Seen};
use crate::record::{CallNumber, History, Logged, Moment, Recorded};

/// What a call meant for one book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) call: CallNumber,
    pub(crate) sent: Moment,
    /// `None`: it need not have happened.
    pub(crate) answered: Option<Moment>,
    pub(crate) deed: Deed,
    /// What the log says of it, if that is to count.
    pub(crate) logged: Option<Logged>,
}

impl Part {
    /// The version that the answer showed, or that the log names.
    pub(crate) fn version(&self) -> Option<Index> {
        match self.deed {
            Deed::Shown(seen) | Deed::Changed(_, Some(seen)) => Some(seen.version),
            Deed::Changed(_, None) => self.entry(),
            Deed::Absent | Deed::Only(_) | Deed::TooMany(_) => None,
        }
    }

    /// The shelf after it; `None` if it can't happen here.
    pub(crate) fn after(&self, shelf: Shelf) -> Option<Shelf> {
        let after = shelf.after(self.deed)?;
        self.entry().map_or(Some(after), |entry| after.at(entry))
    }

    /// Whether it happened, at whatever moment.
    pub(crate) fn is_certain(&self) -> bool {
        self.answered.is_some() || self.entry().is_some()
    }

    /// Whether the log says that it never happened, and no answer says otherwise.
    pub(crate) fn never_was(&self) -> bool {
        self.answered.is_none() && self.logged == Some(Logged::Never)
    }

    /// The entry by which it changed the book, where the log says so.
    fn entry(&self) -> Option<Index> {
        match self.logged {
            Some(Logged::At(entry)) if !self.is_look() => Some(entry),
            _ => None,
        }
    }

    /// Whether it only found something out.
    pub(crate) fn is_look(&self) -> bool {
        !matches!(self.deed, Deed::Changed(..))
    }
}

/// A call whose answer is none to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) CallNumber);

/// Cuts a history.
pub(crate) fn of(history: &History) -> Result<BTreeMap<BookId, Vec<Part>>, Misfit> {
    let mut books: BTreeMap<BookId, Vec<Part>> = BTreeMap::new();
    for (call, number) in history.calls().iter().zip(0..) {
        let number = CallNumber(number);
        for (book, deed) in deeds(call).ok_or(Misfit(number))? {
            let answered = call.answered.filter(|_| call.answer != Answer::Unknown);
            let part = Part { call: number, sent: call.sent, answered, deed, logged: call.logged };
            books.entry(book).or_default().push(part);
        }
    }
    Ok(books)
}

/// The same parts with nothing known from the log; `None` if nothing was.
pub(crate) fn without_log(parts: &[Part]) -> Option<Vec<Part>> {
    let is_known = parts.iter().any(|part| part.logged.is_some());
    is_known.then(|| parts.iter().map(|part| Part { logged: None, ..*part }).collect())
}

/// What a call did to its books; `None` if it can't have that answer.
fn deeds(recorded: &Recorded) -> Option<Vec<(BookId, Deed)>> {
    let Recorded { call, answer, .. } = recorded;
    let changed = |change, seen: Seen| Deed::Changed(change, Some(seen));
    let deeds = match (call, answer) {
        (_, Answer::NotDone) => Vec::new(),
        (call, Answer::Unknown) => {
            changes(call).into_iter().map(|(book, change)| (book, Deed::Changed(change, None))).collect()
        }
        (call, Answer::Absent(book)) => only_of(call, *book, Deed::Absent)?,
        (Call::Look(book), Answer::Book(seen)) => vec![(*book, Deed::Shown(*seen))],
        (Call::Page, Answer::Books(books)) => {
            books.iter().map(|(book, seen)| (*book, Deed::Shown(*seen))).collect()
        }
        (Call::Buy(lines), Answer::Sold(prices)) if lines.len() == prices.len() => {
            let take = |quantity, cost| Change::Take { quantity, cost_cents: Some(cost) };
            let sold = lines.iter().zip(prices);
            sold.map(|(line, cost)| (line.book, Deed::Changed(take(line.quantity, *cost), None))).collect()
        }
        (Call::Buy(_), Answer::OutOfStock(book, available)) => {
            // A refusal that names enough copies is none.
            let asked = asked_of(call, *book)?;
            (asked > *available).then(|| vec![(*book, Deed::Only(*available))])?
        }
        (Call::AddStock(book, amount), Answer::OutOfStock(named, available)) => {
            let fits = book == named && *amount < 0 && amount.unsigned_abs() > *available;
            fits.then(|| vec![(*book, Deed::Only(*available))])?
        }
        (Call::AddStock(book, amount), Answer::StockLimit(named)) => {
            let more = u64::try_from(*amount).ok().filter(|_| book == named)?;
            vec![(*book, Deed::TooMany(more))]
        }
        (Call::AddStock(book, amount), Answer::Book(seen)) => {
            vec![(*book, changed(Change::Add(*amount), *seen))]
        }
        (Call::SetPrice(book, cost), Answer::Book(seen)) => {
            vec![(*book, changed(Change::Price(*cost), *seen))]
        }
        (Call::Put(row), Answer::Book(seen)) => vec![(row.book, changed(put(row, Some(false)), *seen))],
        (Call::Put(row), Answer::Added(seen)) => vec![(row.book, changed(put(row, Some(true)), *seen))],
        (Call::Load(_) | Call::Remove(_), Answer::Done) => {
            changes(call).into_iter().map(|(book, change)| (book, Deed::Changed(change, None))).collect()
        }
        _ => return None,
    };
    Some(deeds)
}

fn put(row: &NewRow, new: Option<bool>) -> Change {
    Change::Put { cost_cents: row.cost_cents, quantity: row.quantity, new }
}

/// What a call changes if it is carried out.
fn changes(call: &Call) -> Vec<(BookId, Change)> {
    match call {
        Call::Look(_) | Call::Page => Vec::new(),
        Call::Buy(lines) => {
            let take = |quantity| Change::Take { quantity, cost_cents: None };
            lines.iter().map(|line| (line.book, take(line.quantity))).collect()
        }
        Call::AddStock(book, amount) => vec![(*book, Change::Add(*amount))],
        Call::SetPrice(book, cost) => vec![(*book, Change::Price(*cost))],
        Call::Put(row) => vec![(row.book, put(row, None))],
        Call::Load(rows) => {
            // One write is one change of a book, even if the book comes twice: the last one stays.
            let last: BTreeMap<BookId, &NewRow> = rows.iter().map(|row| (row.book, row)).collect();
            last.into_values().map(|row| (row.book, put(row, None))).collect()
        }
        Call::Remove(book) => vec![(*book, Change::Remove)],
    }
}

/// One deed on one book, if the call is about that book.
fn only_of(call: &Call, book: BookId, deed: Deed) -> Option<Vec<(BookId, Deed)>> {
    let fits = match call {
        Call::Look(asked) | Call::AddStock(asked, _) | Call::SetPrice(asked, _) | Call::Remove(asked) => {
            *asked == book
        }
        Call::Buy(lines) => lines.iter().any(|line| line.book == book),
        Call::Page | Call::Put(_) | Call::Load(_) => false,
    };
    fits.then(|| vec![(book, deed)])
}

fn asked_of(call: &Call, book: BookId) -> Option<u64> {
    let Call::Buy(lines) = call else { return None };
    lines.iter().find(|line| line.book == book).map(|line| line.quantity)
}
