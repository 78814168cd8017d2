//! Small random histories, right ones and spoilt ones: the checker says what trying every order says.

use std::collections::BTreeMap;

use history::{Answer, Call, History, Logged, NewRow, Recorded, Seen, Verdict, check};
use protocol::ids::BookId;

use super::random::Random;
use super::shop::{Plan, forget, history, spoil, spoil_log};

/// A book with its price, copies and a lower and upper bound of its version.
#[derive(Clone, Copy, Debug)]
struct Shelf {
    row: Option<(u64, u64)>,
    version: (u64, u64),
}

/// Tries every order of the calls on one book, in which each unknown one may also be missing; one that is in
/// the log must come later then.
fn has_order(shelf: Shelf, left: &[&Recorded]) -> bool {
    let must = left.iter().filter_map(|call| call.answered);
    let is_later = |call: &&Recorded| match call.logged {
        Some(Logged::At(entry)) => entry.0 > shelf.version.0,
        _ => true,
    };
    let Some(limit) = must.min() else { return left.iter().all(is_later) };
    (0..left.len()).filter(|at| left[*at].sent <= limit).any(|at| {
        let mut rest = left.to_vec();
        let call = rest.remove(at);
        next(shelf, call).is_some_and(|shelf| has_order(shelf, &rest))
    })
}

fn next(shelf: Shelf, call: &Recorded) -> Option<Shelf> {
    let raised = (shelf.version.0 + 1, u64::MAX);
    let seen = |shelf: Shelf, seen: Seen| {
        let fits = shelf.row == Some((seen.cost_cents.unwrap(), seen.quantity))
            && (shelf.version.0..=shelf.version.1).contains(&seen.version.0);
        fits.then_some(Shelf { version: (seen.version.0, seen.version.0), ..shelf })
    };
    if matches!(call.answer, Answer::Absent(_)) {
        return shelf.row.is_none().then_some(shelf);
    }
    if let Answer::OutOfStock(_, available) = call.answer {
        return shelf.row.is_some_and(|(_, quantity)| quantity == available).then_some(shelf);
    }
    let changed = |row| Shelf { row, version: raised };
    let after = match &call.call {
        Call::Look(_) => shelf,
        Call::Put(NewRow { cost_cents, quantity, .. }) => {
            match call.answer {
                Answer::Added(_) if shelf.row.is_some() => return None,
                Answer::Book(_) if shelf.row.is_none() => return None,
                _ => {}
            }
            changed(Some((*cost_cents, *quantity)))
        }
        Call::Remove(_) => shelf.row.map(|_| changed(None))?,
        Call::SetPrice(_, cost) => shelf.row.map(|(_, quantity)| changed(Some((*cost, quantity))))?,
        Call::AddStock(_, amount) => {
            let (cost, quantity) = shelf.row?;
            changed(Some((cost, quantity.checked_add_signed(*amount)?)))
        }
        Call::Buy(lines) => {
            let (cost, quantity) = shelf.row?;
            if let Answer::Sold(prices) = &call.answer
                && prices[0] != cost
            {
                return None;
            }
            changed(Some((cost, quantity.checked_sub(lines[0].quantity)?)))
        }
        other => panic!("{other:?} is not chosen"),
    };
    let after = match call.answer {
        Answer::Book(shown) | Answer::Added(shown) => seen(after, shown)?,
        _ => after,
    };
    match call.logged {
        Some(Logged::At(entry)) => {
            let fits = (after.version.0..=after.version.1).contains(&entry.0);
            fits.then_some(Shelf { version: (entry.0, entry.0), ..after })
        }
        _ => Some(after),
    }
}

fn slow_check(history: &History) -> bool {
    let mut books: BTreeMap<BookId, Vec<&Recorded>> = BTreeMap::new();
    for call in history.calls() {
        let book = match &call.call {
            Call::Look(book) | Call::AddStock(book, _) | Call::SetPrice(book, _) | Call::Remove(book) => {
                *book
            }
            Call::Buy(lines) => lines[0].book,
            Call::Put(row) => row.book,
            other => panic!("{other:?} is not chosen"),
        };
        if call.logged != Some(Logged::Never) {
            books.entry(book).or_default().push(call);
        }
    }
    books.into_iter().all(|(book, calls)| {
        let start = history.start()[&book];
        let version = start.version.0;
        let row = Some((start.cost_cents.unwrap(), start.quantity));
        has_order(Shelf { row, version: (version, version) }, &calls)
    })
}

/// A refusal that names enough copies is no refusal; the slow checker leaves that to the other one.
fn is_sensible(history: &History) -> bool {
    history.calls().iter().all(|call| match (&call.call, &call.answer) {
        (Call::Buy(lines), Answer::OutOfStock(_, available)) => lines[0].quantity > *available,
        (Call::AddStock(_, amount), Answer::OutOfStock(_, available)) => {
            *amount < 0 && amount.unsigned_abs() > *available
        }
        _ => true,
    })
}

#[test]
fn the_checker_agrees_with_trying_everything() {
    let mut counts = BTreeMap::new();
    for seed in 0..60_000 {
        let mut random = Random::new(seed);
        let plan = Plan {
            books: 1 + random.below(2),
            calls: 4 + usize::try_from(random.below(5)).unwrap(),
            clients: 2 + u32::try_from(random.below(4)).unwrap(),
            stock: random.below(6),
            lost: [0, 3, 6][usize::try_from(random.below(3)).unwrap()],
            prices: 2,
        };
        let right = history(plan, &mut random);
        for history in [&right, &forget(&right, |_| true), &forget(&right, |_| random.once_in(2))] {
            let verdict = check(history);
            assert!(verdict.is_good(), "seed {seed}: {verdict}\n{history:#?}");
        }
        let mut spoilt = forget(&right, |_| random.once_in(3));
        for _ in 0..=random.below(2) {
            let how = if random.once_in(2) { spoil_log } else { spoil };
            spoilt = how(&spoilt, &mut random);
        }
        if is_sensible(&spoilt) {
            let told = forget(&spoilt, |_| true);
            let expected = (slow_check(&told), slow_check(&spoilt));
            let verdicts = (check(&told), check(&spoilt));
            let agrees = matches!(
                (expected, &verdicts),
                ((true, true), (Verdict::Linearizable, Verdict::Linearizable))
                    | ((true, false), (Verdict::Linearizable, Verdict::Contradicted(_)))
                    | ((false, false), (Verdict::Wrong(_), Verdict::Wrong(_)))
            );
            assert!(agrees, "seed {seed}: {expected:?}, {verdicts:?}\n{spoilt:#?}");
            *counts.entry(expected).or_insert(0) += 1;
        }
    }
    // The comparison is worth something only if all verdicts are common.
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 2_000), "{counts:?}");
}
