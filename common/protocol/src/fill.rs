//! Which cache fills may be stored, and which misses may share one request.
//!
//! A miss asks a replica, and while the answer is on its way a write may change what was asked for. The
//! write drops its keys from the cache before it is acknowledged (C1), but the answer is not in the cache
//! yet: stored when it comes, it would be stale for ever. So a miss takes a token when it begins. An
//! invalidation of its key voids the token, and a void fill is answered to its caller, for whom it is new
//! enough, but not stored (C2).
//!
//! Misses for the same thing at the same time share one request, a flight. A flight may be joined only
//! while its token is not void (C3): after a write was acknowledged, a caller that joins a flight from
//! before it would be given an answer that is older than itself. It leads a flight of its own instead, and
//! the void one goes on beside it for those who joined in time.
//!
//! To void tokens costs no search for them. Flights are numbered as they begin, and an invalidation notes
//! for its key the number that comes next: the flights below are void. The note is kept only while flights
//! of the key are under way, for nobody else will ever ask.
//!
//! What this does not do: it holds no answers and wakes nobody. Two duties are left to its driver:
//! 1. [`FillTable::finish`] and the store into the cache are one step, under the lock that
//!    [`FillTable::invalidate`] and the drop from the cache take as one step too. Between the two halves
//!    an invalidation would find nothing to drop, and the stale answer would be stored after it.
//! 2. A token ends its flight by `finish` or `abandon`, also when its leader is dropped half-way; else
//!    the flight would be joined for ever. Those who joined are then told by the flight's id.
//!
//! See "The cache and the push" in `docs/PROTOCOL.md`.

use std::collections::BTreeMap;

use crate::message::{CacheKey, Touched};
use crate::mutant;

/// The number of a flight: by it, those who joined find their leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

/// The right and the duty to end a flight. There is one of each flight: it is cloned only together with the
/// table that it is of, by a model that follows several futures. To end a flight twice panics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a flight whose token is dropped never ends"]
pub struct Token(FlightId);

impl Token {
    /// Which flight it ends.
    #[must_use]
    pub fn flight(&self) -> FlightId {
        self.0
    }
}

/// What a miss is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Begin {
    /// Make the request, then end the flight.
    Lead(Token),
    /// Wait for the answer of this flight. If it is abandoned, begin anew.
    Join(FlightId),
}

/// Whether an answer may go into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Verdict {
    /// It may.
    Store,
    /// It may not: what it shows may have changed since it was asked for. It is still good for all
    /// that have waited for it.
    Void,
}

/// The flights of a front end.
///
/// `F` is what exactly is asked for, such as a page of a topic's books: flights with the same `F` have the
/// same answer, and each `F` belongs to one [`CacheKey`].
///
/// 1. A flight is void exactly if its key, or everything, was invalidated after it began: if its number
///    is below `void_below` of its key or of the table.
/// 2. `keys` has the keys of the flights under way and no others, with the number of their flights. With
///    no flight under way, nothing is kept.
/// 3. Of the flights for one `F`, at most one is not void, and it is the newest one.
/// 4. `newest` has flights under way only, each under its own `F`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FillTable<F> {
    next: FlightId,
    void_below: FlightId,
    flights: BTreeMap<FlightId, Flight<F>>,
    newest: BTreeMap<F, FlightId>,
    keys: BTreeMap<CacheKey, KeyFlights>,
    voided_fills: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight<F> {
    key: CacheKey,
    asked: F,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KeyFlights {
    under_way: usize,
    void_below: FlightId,
}

impl<F> Default for FillTable<F> {
    fn default() -> Self {
        Self {
            next: FlightId(0),
            void_below: FlightId(0),
            flights: BTreeMap::new(),
            newest: BTreeMap::new(),
            keys: BTreeMap::new(),
            voided_fills: 0,
        }
    }
}

impl<F: Ord + Clone> FillTable<F> {
    /// A table without flights.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A miss: it joins the flight for the same thing if that is not void, else it leads one.
    ///
    /// # Panics
    /// If `asked` is under way with another key: it would be joined beyond an invalidation.
    pub fn begin(&mut self, key: &CacheKey, asked: F) -> Begin {
        if let Some(&newest) = self.newest.get(&asked) {
            assert_eq!(self.flights[&newest].key, *key, "what is asked for belongs to one key");
            if !self.is_void(newest, key) || mutant!(JoinVoidFlights) {
                return Begin::Join(newest);
            }
        }
        let id = self.next;
        self.next = FlightId(id.0 + 1);
        let flights = self.keys.entry(key.clone()).or_insert(KeyFlights { under_way: 0, void_below: id });
        flights.under_way += 1;
        self.newest.insert(asked.clone(), id);
        self.flights.insert(id, Flight { key: key.clone(), asked });
        assert!(!self.is_void(id, key), "invariant 1: a flight begins not void");
        Begin::Lead(Token(id))
    }

    /// Ends a flight with an answer, and says what to do with that.
    pub fn finish(&mut self, token: Token) -> Verdict {
        if self.end(token) && !mutant!(FillWithoutToken) {
            self.voided_fills += 1;
            Verdict::Void
        } else {
            Verdict::Store
        }
    }

    /// Ends a flight without an answer. Those who joined it begin anew.
    pub fn abandon(&mut self, token: Token) {
        self.end(token);
    }

    /// Voids the flights of what a write has touched.
    pub fn invalidate(&mut self, touched: &Touched) {
        match touched {
            Touched::Keys(keys) => {
                for key in keys {
                    if let Some(flights) = self.keys.get_mut(key) {
                        flights.void_below = self.next;
                    }
                }
            }
            Touched::Everything => self.void_all(),
        }
    }

    /// Voids all flights, for the view has changed.
    pub fn void_all(&mut self) {
        self.void_below = self.next;
    }

    /// How many answers were not stored because their flights were void.
    #[must_use]
    pub fn voided_fills(&self) -> u64 {
        self.voided_fills
    }

    /// How many flights are under way, void ones included.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Takes a flight out, and says whether it was void.
    fn end(&mut self, Token(id): Token) -> bool {
        let Flight { key, asked } = self.flights.remove(&id).expect("a token is of a flight of its table");
        let void = self.is_void(id, &key);
        if self.newest.get(&asked) == Some(&id) {
            self.newest.remove(&asked);
        } else {
            assert!(void, "invariant 3: a flight that is not void is the newest");
        }
        let flights = self.keys.get_mut(&key).expect("invariant 2: the key of a flight under way is kept");
        flights.under_way -= 1;
        if flights.under_way == 0 {
            self.keys.remove(&key);
        }
        assert_eq!(self.flights.is_empty(), self.keys.is_empty(), "invariant 2");
        void
    }

    fn is_void(&self, id: FlightId, key: &CacheKey) -> bool {
        let flights = self.keys.get(key).expect("invariant 2: the key of a flight under way is kept");
        id < self.void_below || id < flights.void_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::TopicKey;
    use crate::ids::BookId;

    type Table = FillTable<u32>;

    fn book(id: u64) -> CacheKey {
        CacheKey::Book(BookId::try_from(id).unwrap())
    }

    fn written(keys: &[CacheKey]) -> Touched {
        Touched::Keys(keys.to_vec())
    }

    fn lead(table: &mut Table, key: &CacheKey, asked: u32) -> Token {
        match table.begin(key, asked) {
            Begin::Lead(token) => token,
            Begin::Join(flight) => panic!("joined {flight:?}"),
        }
    }

    #[test]
    fn a_fill_that_nothing_touched_is_stored() {
        let mut table = Table::new();
        let token = lead(&mut table, &book(1), 1);
        table.invalidate(&written(&[book(2), CacheKey::Pages]));
        assert_eq!(table.finish(token), Verdict::Store);
        assert_eq!((table.voided_fills(), table.under_way()), (0, 0));
    }

    /// C2. Without it: a read is answered with 3 copies, a sale is acknowledged, then the 3 is stored.
    #[test]
    fn a_fill_from_before_a_write_is_not_stored_after_it() {
        for touched in [written(&[CacheKey::Pages, book(1)]), Touched::Everything] {
            let mut table = Table::new();
            let token = lead(&mut table, &book(1), 1);
            table.invalidate(&touched);
            assert_eq!(table.finish(token), Verdict::Void, "{touched:?}");
            assert_eq!(table.voided_fills(), 1);
        }
    }

    /// C2. Without it: an answer of a member that the new view leaves out is stored.
    #[test]
    fn a_fill_from_before_a_change_of_the_view_is_not_stored_after_it() {
        let mut table = Table::new();
        let (one, two) = (lead(&mut table, &book(1), 1), lead(&mut table, &CacheKey::Topics, 2));
        table.void_all();
        let after = lead(&mut table, &book(1), 1);
        assert_eq!(
            [one, two, after].map(|token| table.finish(token)),
            [Verdict::Void, Verdict::Void, Verdict::Store]
        );
    }

    #[test]
    fn all_pages_of_a_topic_are_void_together_and_each_is_a_flight() {
        let (mut table, key) = (Table::new(), CacheKey::Topic(TopicKey::of("spring")));
        let pages = [1, 2].map(|page| lead(&mut table, &key, page));
        table.invalidate(&written(&[key]));
        assert_eq!(pages.map(|token| table.finish(token)), [Verdict::Void; 2]);
    }

    #[test]
    fn misses_for_one_thing_make_one_request() {
        let mut table = Table::new();
        let token = lead(&mut table, &book(1), 1);
        for _ in 0..3 {
            assert_eq!(table.begin(&book(1), 1), Begin::Join(token.flight()));
        }
        assert_eq!(table.under_way(), 1);
        assert_eq!(table.finish(token), Verdict::Store);
        let next = lead(&mut table, &book(1), 1);
        table.abandon(next);
    }

    /// C3, the rule marked (!). Without it: a flight has read 3 copies, a sale is acknowledged, its buyer
    /// asks for the stock, joins the flight, and is told 3 after having bought one of them.
    #[test]
    fn nobody_joins_a_flight_from_before_a_write_that_is_done() {
        for touched in [written(&[book(1)]), Touched::Everything] {
            let mut table = Table::new();
            let before = lead(&mut table, &book(1), 1);
            table.invalidate(&touched);
            let after = lead(&mut table, &book(1), 1);
            assert_eq!(table.begin(&book(1), 1), Begin::Join(after.flight()), "the new one may be joined");
            assert_eq!(table.finish(before), Verdict::Void);
            assert_eq!(table.begin(&book(1), 1), Begin::Join(after.flight()), "the end of a void one");
            assert_eq!(table.finish(after), Verdict::Store);
        }
    }

    /// The note of an invalidation must outlive the end of a newer flight for the same key.
    #[test]
    fn a_void_flight_stays_void_when_a_newer_one_ends_before_it() {
        let mut table = Table::new();
        let before = lead(&mut table, &book(1), 1);
        table.invalidate(&written(&[book(1)]));
        let after = lead(&mut table, &book(1), 1);
        assert_eq!(table.finish(after), Verdict::Store);
        let third = lead(&mut table, &book(1), 1);
        assert_eq!(table.finish(before), Verdict::Void);
        assert_eq!(table.finish(third), Verdict::Store);
    }

    #[test]
    fn an_abandoned_flight_is_joined_no_more_and_counts_as_no_fill() {
        let mut table = Table::new();
        let token = lead(&mut table, &book(1), 1);
        let flight = token.flight();
        assert_eq!(table.begin(&book(1), 1), Begin::Join(flight));
        table.invalidate(&Touched::Everything);
        table.abandon(token);
        let anew = lead(&mut table, &book(1), 1);
        assert_ne!(anew.flight(), flight);
        assert_eq!((table.voided_fills(), table.finish(anew)), (0, Verdict::Store));
    }

    #[test]
    fn keys_without_flights_leave_nothing_behind() {
        let mut table = Table::new();
        for id in 1..100 {
            table.invalidate(&written(&[book(id), CacheKey::Pages]));
            let token = lead(&mut table, &book(id), 0);
            table.invalidate(&written(&[book(id)]));
            assert_eq!((table.keys.len(), table.newest.len(), table.flights.len()), (1, 1, 1));
            assert_eq!(table.finish(token), Verdict::Void);
            assert_eq!((table.keys.len(), table.newest.len(), table.flights.len()), (0, 0, 0));
        }
    }

    #[test]
    #[should_panic(expected = "belongs to one key")]
    fn one_thing_does_not_belong_to_two_keys() {
        let mut table = Table::new();
        let _token = lead(&mut table, &book(1), 1);
        assert_ne!(table.begin(&book(2), 1), Begin::Join(FlightId(0)));
    }

    /// What the table does, done by looking at every flight each time.
    struct Model {
        token: Token,
        key: CacheKey,
        asked: u32,
        void: bool,
    }

    /// Numbers without pattern, the same in each run.
    fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 33).unwrap() % below
        }
    }

    #[test]
    fn any_sequence_gives_what_the_model_gives() {
        for seed in 0..300 {
            let (mut number, mut table) = (numbers(seed), Table::new());
            let (mut flights, mut voided) = (Vec::<Model>::new(), 0);
            for _ in 0..300 {
                let asked = number(6);
                let key = [book(1), book(2), CacheKey::Pages][asked as usize / 2].clone();
                match number(12) {
                    0..5 => {
                        let open = flights.iter().find(|flight| flight.asked == asked && !flight.void);
                        match (table.begin(&key, asked), open) {
                            (Begin::Join(joined), Some(open)) => assert_eq!(joined, open.token.flight()),
                            (Begin::Lead(token), None) => {
                                flights.push(Model { token, key, asked, void: false });
                            }
                            (got, _) => panic!("seed {seed}: {got:?}"),
                        }
                    }
                    5..9 if !flights.is_empty() => {
                        let ending = number(u32::try_from(flights.len()).unwrap()) as usize;
                        let Model { token, void, .. } = flights.remove(ending);
                        if number(4) == 0 {
                            table.abandon(token);
                        } else {
                            voided += u64::from(void);
                            let right = if void { Verdict::Void } else { Verdict::Store };
                            assert_eq!(table.finish(token), right, "seed {seed}");
                        }
                    }
                    9 => {
                        table.void_all();
                        flights.iter_mut().for_each(|flight| flight.void = true);
                    }
                    _ => {
                        table.invalidate(&written(std::slice::from_ref(&key)));
                        let touched = flights.iter_mut().filter(|flight| flight.key == key);
                        touched.for_each(|flight| flight.void = true);
                    }
                }
                assert_eq!((table.under_way(), table.voided_fills()), (flights.len(), voided), "seed {seed}");
                assert_eq!(table.keys.values().map(|key| key.under_way).sum::<usize>(), flights.len());
                assert!(table.newest.len() <= flights.len() && table.keys.len() <= flights.len());
            }
        }
    }
}
