//! The search for an order of what happened to one book.
//!
//! After Wing and Gong: of the parts that are not placed yet, one can come next only if it was sent no
//! later than the earliest answer among them. Try those, go back where nothing fits. After Lowe: remember
//! where the search has been, for another way to the same set of placed parts and the same shelf ends alike.
//!
//! What is known of this object prunes nearly all of the rest:
//!
//! - A look that fits the shelf as it is, and would not teach anything about it, is placed at once. That takes
//!   nothing from what comes later.
//! - Versions rise. So the parts that show a version, or have one by the log, can only be placed in its order:
//!   writes before looks, and looks of one version by their sending. They form the *chain*; only its head is
//!   ever tried.
//! - Of several parts that do the same and show nothing (sales of as many copies at one price) only the one
//!   whose answer came first is tried: exchanging it with another one never spoils an order. If none was
//!   answered, any will do.
//! - Of two ways to the same place, the one that spent fewer of the calls that need not have happened can do
//!   all that the other can.
//! - A price is not left while sales at it are to come and nothing can bring it back.
//!
//! What is left to choose is which unversioned writes stand between two versions: mostly sales of different
//! sizes that were under way at one time, where the log was not asked about them.

use std::collections::{BTreeMap, HashMap};

use crate::book::{Change, Deed, Shelf, Version};
use crate::parts::Part;
use crate::record::{CallNumber, Moment};

/// How many parts placed last are told of when no order is found.
const TOLD_MAX: usize = 6;

/// How a search ended.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is an order.
    Order,
    /// There is none. This is as far as it went.
    Nothing(DeadEnd),
    /// It was given up after so many steps as were allowed.
    GaveUp,
}

/// Where the search came furthest.
#[derive(Clone, Debug)]
pub(crate) struct DeadEnd {
    /// The call that had been answered by then, or is in the log, and fits nowhere.
    pub(crate) stuck: CallNumber,
    /// The call that showed the lowest version of those that are not placed, if that is another one.
    pub(crate) next: Option<CallNumber>,
    /// The book, at the end of one of the orders tried.
    pub(crate) shelf: Shelf,
    /// What was placed last in that order, oldest first.
    pub(crate) placed: Vec<CallNumber>,
}

/// A list of parts of which a prefix is placed, more or less.
#[derive(Debug, Default)]
struct Queue {
    parts: Vec<usize>,
    /// All before this place are placed.
    first: usize,
}

/// Parts that do the same and show nothing of it.
#[derive(Debug)]
struct Class {
    queue: Queue,
    /// Whether they were answered at all.
    is_answered: bool,
}

/// One book's search.
#[derive(Debug)]
pub(crate) struct Search<'p> {
    parts: &'p [Part],
    is_placed: Vec<bool>,
    /// Parts in the order of their placing.
    trail: Vec<usize>,
    /// Answered parts by the moment of the answer.
    by_answer: Queue,
    /// Parts that show a version.
    chain: Queue,
    /// Refusals and absences, by sending.
    quiet: Queue,
    classes: Vec<Class>,
    /// The place of each part in `by_answer` (or none), and in its other queue.
    places: Vec<(Option<usize>, usize, Home)>,
    /// A number for the set of placed parts that certainly happened.
    mark: u128,
    /// The placed parts that need not have happened.
    spent: Vec<usize>,
    /// For each price, the sales at it and the changes to it that are not placed.
    prices: HashMap<u64, Price>,
    /// Where the search has been, and what was spent on each way there.
    seen: HashMap<(u128, Shelf), Vec<Vec<usize>>>,
    furthest: Option<(usize, DeadEnd)>,
    /// What the search has cost: options tried, and ways compared.
    cost: u64,
}

/// What is still to come at a price.
#[derive(Clone, Copy, Debug, Default)]
struct Price {
    sales: usize,
    changes: usize,
}

/// Which queue a part is in, beside that by answers.
#[derive(Clone, Copy, Debug)]
enum Home {
    Chain,
    Quiet,
    Class(usize),
}

/// A place where there was a choice.
struct Fork {
    shelf: Shelf,
    /// How many parts were placed then.
    placed: usize,
    /// What has not been tried, the best last.
    options: Vec<usize>,
}

impl<'p> Search<'p> {
    pub(crate) fn new(parts: &'p [Part]) -> Self {
        let mut search = Self {
            parts,
            is_placed: vec![false; parts.len()],
            trail: Vec::with_capacity(parts.len()),
            by_answer: Queue::default(),
            chain: Queue::default(),
            quiet: Queue::default(),
            classes: Vec::new(),
            places: vec![(None, 0, Home::Quiet); parts.len()],
            mark: 0,
            spent: Vec::new(),
            prices: HashMap::new(),
            seen: HashMap::new(),
            furthest: None,
            cost: 0,
        };
        search.sort();
        search
    }

    /// Puts each part into its queues.
    fn sort(&mut self) {
        let parts = self.parts;
        let mut classes: BTreeMap<(bool, Change), Vec<usize>> = BTreeMap::new();
        for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.never_was()) {
            self.count(number, |count| count + 1);
            if part.answered.is_some() {
                self.by_answer.parts.push(number);
            }
            match part.deed {
                _ if part.version().is_some() => self.chain.parts.push(number),
                Deed::Changed(change, _) => {
                    classes.entry((part.answered.is_some(), change)).or_default().push(number);
                }
                Deed::Shown(_) | Deed::Absent | Deed::Only(_) | Deed::TooMany(_) => {
                    self.quiet.parts.push(number);
                }
            }
        }
        self.by_answer.parts.sort_by_key(|part| parts[*part].answered);
        self.quiet.parts.sort_by_key(|part| parts[*part].sent);
        self.chain.parts.sort_by_key(|part| {
            let part = &parts[*part];
            (part.version(), part.is_look(), part.sent)
        });
        for ((is_answered, _), mut members) in classes {
            members.sort_by_key(|part| parts[*part].sent);
            self.classes.push(Class { queue: Queue { parts: members, first: 0 }, is_answered });
        }
        for (place, part) in self.by_answer.parts.iter().enumerate() {
            self.places[*part].0 = Some(place);
        }
        let homes = [(&self.chain, Home::Chain), (&self.quiet, Home::Quiet)];
        let classes = self.classes.iter().zip(0..).map(|(class, number)| (&class.queue, Home::Class(number)));
        for (queue, home) in homes.into_iter().chain(classes) {
            for (place, part) in queue.parts.iter().enumerate() {
                let (_, at, known) = &mut self.places[*part];
                (*at, *known) = (place, home);
            }
        }
    }

    /// Looks for an order, at so much cost at most.
    pub(crate) fn run(mut self, start: Shelf, cost_max: u64) -> Found {
        let mut forks: Vec<Fork> = Vec::new();
        let mut shelf = start;
        loop {
            let options = match self.settle(&mut shelf) {
                Settled::All => return Found::Order,
                Settled::Dead => Vec::new(),
                Settled::Until(limit) if self.is_new(shelf) => self.options(shelf, limit),
                Settled::Until(_) => Vec::new(),
            };
            if options.is_empty() {
                self.remember(shelf);
            }
            forks.push(Fork { shelf, placed: self.trail.len(), options });
            loop {
                let Some(fork) = forks.last_mut() else { return self.nothing() };
                let Some(next) = fork.options.pop() else {
                    forks.pop();
                    continue;
                };
                let (before, placed) = (fork.shelf, fork.placed);
                self.take_back(placed);
                self.cost += 1;
                if self.cost > cost_max {
                    return Found::GaveUp;
                }
                if let Some(after) = self.parts[next].after(before) {
                    self.place(next);
                    shelf = after;
                    break;
                }
            }
        }
    }

    fn nothing(self) -> Found {
        // The search leaves a dead end behind wherever it turns back, and it has turned back.
        self.furthest.map_or(Found::GaveUp, |(_, end)| Found::Nothing(end))
    }

    /// Places whatever there is no choice about.
    fn settle(&mut self, shelf: &mut Shelf) -> Settled {
        loop {
            let Some(limit) = self.limit() else { return self.end(*shelf) };
            if let Some(part) = self.fitting_quiet(*shelf, limit) {
                self.place(part);
                continue;
            }
            let (Version::At(version) | Version::Above(version)) = shelf.version;
            let Some(head) = self.chain_head().filter(|head| self.parts[*head].version() <= Some(version))
            else {
                return Settled::Until(limit);
            };
            // Once the book changes again, nobody is shown this version any more.
            let part = &self.parts[head];
            if part.sent > limit || !part.is_look() {
                return Settled::Dead;
            }
            let Some(after) = part.after(*shelf) else { return Settled::Dead };
            *shelf = after;
            self.place(head);
        }
    }

    /// All answers have their place. What the log has beyond them happened later, or not at all as it says.
    fn end(&mut self, shelf: Shelf) -> Settled {
        let next = self.chain_head().and_then(|head| self.parts[head].version());
        if next.is_some_and(|next| next <= shelf.version.least()) { Settled::Dead } else { Settled::All }
    }

    /// The earliest answer to a part that is not placed.
    fn limit(&mut self) -> Option<Moment> {
        let part = self.by_answer.head(&self.is_placed)?;
        self.parts[part].answered
    }

    fn chain_head(&mut self) -> Option<usize> {
        self.chain.head(&self.is_placed)
    }

    fn fitting_quiet(&mut self, shelf: Shelf, limit: Moment) -> Option<usize> {
        self.quiet.head(&self.is_placed)?;
        let open = self.quiet.open(&self.is_placed);
        let open = open.take_while(|part| self.parts[*part].sent <= limit);
        open.into_iter().find(|part| self.parts[*part].after(shelf).is_some())
    }

    /// What can come next, the best last.
    fn options(&mut self, shelf: Shelf, limit: Moment) -> Vec<usize> {
        let parts = self.parts;
        let mut options = Vec::new();
        let prices = &self.prices;
        // All of a class are alike.
        let can_be = |part: usize| {
            let after = parts[part].after(shelf);
            after.is_some_and(|after| may_leave(prices, shelf, after))
        };
        for class in &mut self.classes {
            if !class.queue.head(&self.is_placed).is_some_and(can_be) {
                continue;
            }
            let mut open = class.queue.open(&self.is_placed).take_while(|part| parts[*part].sent <= limit);
            let chosen =
                if class.is_answered { open.min_by_key(|p| parts[*p].answered) } else { open.next() };
            options.extend(chosen);
        }
        // Those that must come soon first; what was never answered only when all else fails.
        options.sort_by_key(|part| {
            let answered = parts[*part].answered;
            std::cmp::Reverse((answered.is_none(), answered))
        });
        let head = self.chain.head(&self.is_placed);
        options.extend(head.filter(|head| parts[*head].sent <= limit && can_be(*head)));
        options
    }

    fn place(&mut self, part: usize) {
        self.is_placed[part] = true;
        self.count(part, |count| count - 1);
        if self.parts[part].is_certain() {
            self.mark ^= mark_of(part);
        } else {
            self.spent.push(part);
        }
        self.trail.push(part);
    }

    /// Counts a part among what is to come at its price.
    fn count(&mut self, part: usize, change: impl Fn(usize) -> usize) {
        let Deed::Changed(deed, _) = self.parts[part].deed else { return };
        match deed {
            Change::Take { cost_cents: Some(cost), .. } => {
                let price = self.prices.entry(cost).or_default();
                price.sales = change(price.sales);
            }
            Change::Price(cost) | Change::Put { cost_cents: cost, .. } => {
                let price = self.prices.entry(cost).or_default();
                price.changes = change(price.changes);
            }
            Change::Take { cost_cents: None, .. } | Change::Add(_) | Change::Remove => {}
        }
    }

    /// Whether the search has not been here: with the same certain parts placed and the same shelf, and with
    /// nothing spent that is not spent now. Who has spent less can do all that the other can.
    fn is_new(&mut self, shelf: Shelf) -> bool {
        let mut spent = self.spent.clone();
        spent.sort_unstable();
        let ways = self.seen.entry((self.mark, shelf)).or_default();
        self.cost += ways.len() as u64;
        let is_within = |less: &Vec<usize>| less.iter().all(|part| spent.binary_search(part).is_ok());
        if ways.iter().any(is_within) {
            return false;
        }
        ways.push(spent);
        true
    }

    /// Takes parts back until only so many are placed.
    fn take_back(&mut self, placed: usize) {
        for part in self.trail.split_off(placed) {
            self.is_placed[part] = false;
            self.count(part, |count| count + 1);
            if self.parts[part].is_certain() {
                self.mark ^= mark_of(part);
            } else {
                self.spent.retain(|spent| *spent != part);
            }
            let (answer, place, home) = self.places[part];
            if let Some(place) = answer {
                self.by_answer.reopen(place);
            }
            match home {
                Home::Chain => self.chain.reopen(place),
                Home::Quiet => self.quiet.reopen(place),
                Home::Class(class) => self.classes[class].queue.reopen(place),
            }
        }
    }

    /// Keeps a dead end if none went further.
    fn remember(&mut self, shelf: Shelf) {
        let stuck = self.by_answer.head(&self.is_placed).or_else(|| self.chain_head());
        let Some(stuck) = stuck else { return };
        let far = self.by_answer.first;
        if self.furthest.as_ref().is_some_and(|(known, _)| *known >= far) {
            return;
        }
        let last = self.trail.len().saturating_sub(TOLD_MAX);
        let placed = self.trail[last..].iter().map(|part| self.parts[*part].call).collect();
        let next = self.chain_head().filter(|head| *head != stuck).map(|head| self.parts[head].call);
        self.furthest = Some((far, DeadEnd { stuck: self.parts[stuck].call, next, shelf, placed }));
    }
}

/// Whether the price before, if it is left, is one that may be left.
fn may_leave(prices: &HashMap<u64, Price>, before: Shelf, after: Shelf) -> bool {
    let Some(cost) = before.row.map(|row| row.cost_cents) else { return true };
    let stays = after.row.is_some_and(|row| row.cost_cents == cost);
    stays || prices.get(&cost).is_none_or(|price| price.sales == 0 || price.changes > 0)
}

/// What is left after everything has been placed that there is no choice about.
enum Settled {
    /// Nothing that must be placed.
    All,
    /// What was sent by this moment can come next.
    Until(Moment),
    /// No order begins like this.
    Dead,
}

impl Queue {
    /// The first part that is not placed.
    fn head(&mut self, is_placed: &[bool]) -> Option<usize> {
        while self.parts.get(self.first).is_some_and(|part| is_placed[*part]) {
            self.first += 1;
        }
        self.parts.get(self.first).copied()
    }

    /// The parts that are not placed, in order.
    fn open<'a>(&'a self, is_placed: &'a [bool]) -> impl Iterator<Item = usize> + 'a {
        self.parts[self.first..].iter().copied().filter(|part| !is_placed[*part])
    }

    fn reopen(&mut self, place: usize) {
        self.first = self.first.min(place);
    }
}

/// A number for a part, such that the sum of a set's numbers names the set: `SplitMix64`, twice. 128 bits
/// make it idle to think of two sets with one sum.
fn mark_of(part: usize) -> u128 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let part = part as u64;
    (u128::from(mix(2 * part + 1)) << 64) | u128::from(mix(2 * part + 2))
}
