//! Histories of a shop that really is linearizable, from a seed: each call happens as a whole at a moment
//! between its sending and its answer. The shop keeps a log, and of each write it is known where it is there.

use history::{Answer, Call, ClientId, History, Logged, Moment, NewRow, Recorded, Seen, Start};
use protocol::catalogue::OrderLine;
use protocol::ids::{BookId, Index};

use super::random::Random;

/// What kind of shop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) books: u64,
    pub(crate) calls: usize,
    pub(crate) clients: u32,
    /// Copies at the beginning.
    pub(crate) stock: u64,
    /// One call in so many is never answered; 0 for none.
    pub(crate) lost: u64,
    /// How many different prices are set.
    pub(crate) prices: u64,
}

fn id(book: u64) -> BookId {
    BookId::try_from(book).unwrap()
}

/// The history of a day in the shop.
pub(crate) fn history(plan: Plan, random: &mut Random) -> History {
    let mut books: Vec<Option<Seen>> = (0..plan.books)
        .map(|_| Some(Seen { cost_cents: Some(100), quantity: plan.stock, version: Index(1) }))
        .collect();
    let start: Start = (1..).map(id).zip(books.iter().flatten().copied()).collect();
    // Sent, happening, answered: three moments for each call, clients one call after the other.
    let mut calls: Vec<(u64, u64, u64, u32)> = Vec::new();
    let mut free = vec![0; plan.clients as usize];
    for number in 0..plan.calls {
        let client = number % free.len();
        let sent = free[client] + 1 + random.below(20);
        let happens = sent + random.below(30);
        let answered = happens + random.below(30);
        free[client] = answered;
        calls.push((sent, happens, answered, u32::try_from(client).unwrap()));
    }
    // Unknown calls may happen much later than their sender waits.
    for call in &mut calls {
        if plan.lost > 0 && random.once_in(plan.lost) {
            call.1 += random.below(200);
            call.2 = u64::MAX;
        }
    }
    calls.sort_by_key(|call| call.1);
    let mut history = History::new(start);
    let mut version = 1;
    for (sent, _, answered, client) in calls {
        let is_lost = answered == u64::MAX;
        let never = is_lost && random.once_in(2);
        let book = random.below(plan.books);
        let call = choose(id(book + 1), plan, random);
        let place = usize::try_from(book).unwrap();
        version += 1 + random.below(3);
        let answer = if never { Answer::Unknown } else { happen(&call, &mut books[place], version) };
        let logged = match &answer {
            _ if matches!(call, Call::Look(_)) => None,
            Answer::Sold(_) | Answer::Book(_) | Answer::Added(_) | Answer::Done => {
                Some(Logged::At(Index(version)))
            }
            _ => is_lost.then_some(Logged::Never),
        };
        let answer = if is_lost { Answer::Unknown } else { answer };
        let answered = (!is_lost).then_some(Moment(answered));
        let (client, sent) = (ClientId(client), Moment(sent));
        history.push(Recorded { client, call, sent, answered, answer, logged });
    }
    history
}

fn choose(book: BookId, plan: Plan, random: &mut Random) -> Call {
    let cost = 100 + random.below(plan.prices);
    match random.below(20) {
        0..8 => Call::Look(book),
        8..16 => Call::Buy(vec![OrderLine { book, quantity: 1 + random.below(3) }]),
        16 => Call::SetPrice(book, cost),
        17 if random.once_in(4) => Call::Remove(book),
        18 if random.once_in(2) => Call::Put(NewRow { book, cost_cents: cost, quantity: random.below(9) }),
        _ => Call::AddStock(book, i64::try_from(random.below(9)).unwrap() - 3),
    }
}

/// One thing after the other on a plain shelf: written apart from the model that is tested with it.
fn happen(call: &Call, shelf: &mut Option<Seen>, version: u64) -> Answer {
    if let Call::Put(NewRow { cost_cents, quantity, .. }) = call {
        let seen = Seen { cost_cents: Some(*cost_cents), quantity: *quantity, version: Index(version) };
        return if shelf.replace(seen).is_some() { Answer::Book(seen) } else { Answer::Added(seen) };
    }
    let (Call::Look(book) | Call::AddStock(book, _) | Call::SetPrice(book, _) | Call::Remove(book)) = call
    else {
        let Call::Buy(lines) = call else { unreachable!("{call:?} is not chosen") };
        let line = lines[0];
        let Some(seen) = shelf else { return Answer::Absent(line.book) };
        if seen.quantity < line.quantity {
            return Answer::OutOfStock(line.book, seen.quantity);
        }
        seen.quantity -= line.quantity;
        seen.version = Index(version);
        return Answer::Sold(vec![seen.cost_cents.unwrap()]);
    };
    let Some(seen) = shelf else { return Answer::Absent(*book) };
    match call {
        Call::AddStock(_, amount) => match seen.quantity.checked_add_signed(*amount) {
            Some(sum) => seen.quantity = sum,
            None => return Answer::OutOfStock(*book, seen.quantity),
        },
        Call::SetPrice(_, cost) => seen.cost_cents = Some(*cost),
        Call::Remove(_) => {
            *shelf = None;
            return Answer::Done;
        }
        _ => return Answer::Book(*seen),
    }
    seen.version = Index(version);
    Answer::Book(*seen)
}

/// The same history, where the log was not asked about some calls.
pub(crate) fn forget(history: &History, mut is_forgotten: impl FnMut(&Recorded) -> bool) -> History {
    let mut told = History::new(history.start().clone());
    for call in history.calls() {
        let logged = call.logged.filter(|_| !is_forgotten(call));
        told.push(Recorded { logged, ..call.clone() });
    }
    told
}

/// Changes an answer a little, so that the history is probably wrong.
pub(crate) fn spoil(history: &History, random: &mut Random) -> History {
    let victim = usize::try_from(random.below(history.calls().len() as u64)).unwrap();
    change(history, victim, |call| {
        call.answer = match call.answer.clone() {
            Answer::Book(seen) => Answer::Book(other(seen, random)),
            Answer::Added(seen) => Answer::Added(other(seen, random)),
            Answer::Sold(prices) => {
                Answer::Sold(prices.into_iter().map(|price| price ^ random.below(2)).collect())
            }
            Answer::OutOfStock(book, available) => Answer::OutOfStock(book, available.saturating_sub(1)),
            other => other,
        }
    })
}

/// Changes a line of the log a little, so that it probably contradicts the answers.
pub(crate) fn spoil_log(history: &History, random: &mut Random) -> History {
    let logged = (0..).zip(history.calls()).filter(|(_, call)| call.logged.is_some());
    let logged: Vec<usize> = logged.map(|(number, _)| number).collect();
    if logged.is_empty() {
        return history.clone();
    }
    let victim = logged[usize::try_from(random.below(logged.len() as u64)).unwrap()];
    change(history, victim, |call| {
        call.logged = Some(match call.logged {
            Some(Logged::At(_)) if call.answered.is_none() && random.once_in(3) => Logged::Never,
            Some(Logged::At(entry)) => {
                Logged::At(Index((entry.0 + 1 + random.below(4)).saturating_sub(3 * random.below(2))))
            }
            _ => Logged::At(Index(random.below(20))),
        });
    })
}

fn change(history: &History, victim: usize, how: impl FnOnce(&mut Recorded)) -> History {
    let mut changed = History::new(history.start().clone());
    let mut calls = history.calls().to_vec();
    how(&mut calls[victim]);
    calls.into_iter().for_each(|call| changed.push(call));
    changed
}

fn other(seen: Seen, random: &mut Random) -> Seen {
    let mut seen = seen;
    match random.below(3) {
        0 => seen.quantity = (seen.quantity + random.below(3)).saturating_sub(1),
        1 => seen.cost_cents = seen.cost_cents.map(|cost| cost + random.below(2)),
        _ => seen.version = Index((seen.version.0 + random.below(5)).saturating_sub(2)),
    }
    seen
}
