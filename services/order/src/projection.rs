//! From the shards' logs into the book of orders (docs/PROTOCOL.md, "Orders").
//!
//! One thread owns the book. It asks a front end for each shard's sales from the book's cursor on, and
//! enters what comes, everything that is waiting in one transaction. A feed is taken only where the last
//! one ended: the log has no gaps, so the book has none.
//!
//! A stored cursor is an index with its chain, by which the shard can tell whether the book's history is
//! its own. Feeds may end where the chain is not known; then the book is further than its cursor, and
//! after a break of the link that stretch comes again. Orders that are there already stay as they are.
//!
//! Whatever goes wrong ends the same way: following begins anew from what the file holds, and a file that
//! is damaged is replaced by an empty one first.

use std::collections::{BTreeMap, BTreeSet};

use common::exit::with_causes;
use common::link::LinkSender;
use protocol::call::{Feed, InternalCall, ShardBeat};
use protocol::ids::{Chain, Digest, Epoch, Index, ShardId};
use tokio::sync::{mpsc, watch};

use crate::book::{Book, BookError, Change, Cursor, Opened, Readers};

/// How many inputs may wait for the thread. When so many do, the feed's link is not read on, which slows
/// whoever feeds.
pub const INPUTS_MAX: usize = 64;
/// About how many sales are entered in one transaction: enough that its own cost is spread, few enough
/// that the book is seen to grow while it is built anew.
const SALES_PER_TRANSACTION: usize = 8192;

/// What the thread is told.
#[derive(Debug)]
pub enum Input {
    /// A front end can be asked for feeds over this link. Nothing comes over an older one any more.
    Connected(LinkSender<InternalCall>),
    /// The next sales of a shard.
    Feed(Feed),
    /// What the book has of this shard is not its history.
    StartOver(ShardId),
    /// A reader found the file damaged.
    Damaged(BookError),
}

/// How far the book has followed a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What is stored: following begins here.
    pub known: Cursor,
    /// The book has everything up to here.
    pub reached: Index,
    /// How often the book lost what it had of the shard since the node's start. It is made known before that is
    /// gone, so that who finds nothing can tell whether there is nothing.
    pub restarts: u64,
    /// Where the next feed must begin.
    next_after: Index,
    /// A feed that does not fit is of an older call, until one fits.
    asked: bool,
}

impl Place {
    fn stored(known: Cursor) -> Self {
        Self { known, reached: known.index, restarts: 0, next_after: known.index, asked: false }
    }

    /// Nothing of the shard is known any more.
    fn start_over(&mut self) {
        *self = Self { restarts: self.restarts + 1, ..Self::default() };
        self.ask_again();
    }

    fn ask_again(&mut self) {
        self.next_after = self.known.index;
        self.asked = true;
    }
}

/// How far the book has followed each shard.
pub type Places = BTreeMap<ShardId, Place>;

/// How a projection stands in its shards, for a heartbeat.
#[must_use]
pub fn beats(places: &Places) -> Vec<ShardBeat> {
    let beat = |(shard, place): (&ShardId, &Place)| ShardBeat {
        shard: *shard,
        store: None,
        promise: Epoch(0),
        last: place.reached,
        chain: if place.known.index == place.reached { place.known.chain } else { Chain::default() },
        digest: Digest::default(),
    };
    places.iter().map(beat).collect()
}

/// What the thread owns.
#[derive(Debug)]
pub struct Projection {
    book: Book,
    readers: Readers,
    places: Places,
    published: watch::Sender<Places>,
    link: Option<LinkSender<InternalCall>>,
}

/// What a round of inputs comes to.
#[derive(Debug, Default)]
struct Round {
    changes: Vec<Change>,
    follow: BTreeSet<ShardId>,
    places: Places,
}

impl Projection {
    /// A projection of so many shards into a book, and what it makes known of its progress.
    ///
    /// # Errors
    /// If the book can't be read.
    pub fn new(opened: Opened, shards: u32) -> Result<(Self, watch::Receiver<Places>), BookError> {
        let Opened { book, readers } = opened;
        let stored = book.cursors()?;
        let place = |shard| Place::stored(stored.get(&shard).copied().unwrap_or_default());
        let places: Places = (0..shards).map(ShardId).map(|shard| (shard, place(shard))).collect();
        let (published, progress) = watch::channel(places.clone());
        Ok((Self { book, readers, places, published, link: None }, progress))
    }

    /// Ends, and gives the book back.
    #[must_use]
    pub fn into_book(self) -> Opened {
        Opened { book: self.book, readers: self.readers }
    }

    /// Takes inputs until all senders are gone, and everything that has come by then.
    ///
    /// # Errors
    /// If a damaged book can't be replaced.
    pub fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> Result<(), BookError> {
        while let Some(first) = inputs.blocking_recv() {
            let mut weight = weight_of(&first);
            let mut round = vec![first];
            while weight < SALES_PER_TRANSACTION {
                let Ok(next) = inputs.try_recv() else { break };
                weight += weight_of(&next);
                round.push(next);
            }
            self.take(round)?;
        }
        Ok(())
    }

    /// Takes inputs in the order in which they came, with one transaction for all of them.
    ///
    /// # Errors
    /// If a damaged book can't be replaced.
    pub fn take(&mut self, inputs: Vec<Input>) -> Result<(), BookError> {
        let mut round = Round { places: self.places.clone(), ..Round::default() };
        let mut damaged = None;
        for input in inputs {
            match input {
                Input::Connected(link) => {
                    self.link = Some(link);
                    round.follow_all();
                }
                Input::Feed(feed) => round.feed(feed),
                Input::StartOver(shard) => self.start_over(&mut round, shard),
                Input::Damaged(damage) => damaged = Some(damage),
            }
        }
        if let Some(damage) = damaged {
            return self.replace_book(&damage);
        }
        let Round { changes, follow, places } = round;
        if changes.iter().any(|change| matches!(change, Change::Forget { .. })) {
            self.announce_restarts(&places);
        }
        if !changes.is_empty() {
            match self.book.write(&changes) {
                Ok(()) => {}
                Err(damage) if damage.is_damage() => return self.replace_book(&damage),
                Err(problem) => {
                    tracing::error!(problem = %with_causes(&problem), "orders can't be entered; following begins anew");
                    self.published.send_replace(self.places.clone());
                    self.cut_link();
                    return Ok(());
                }
            }
        }
        self.places = places;
        self.published.send_replace(self.places.clone());
        self.follow(&follow);
        Ok(())
    }

    /// Makes known which shards are about to be forgotten, before their rows go.
    fn announce_restarts(&mut self, next: &Places) {
        let mut announced = self.places.clone();
        for (shard, place) in &mut self.places {
            let restarts = next.get(shard).map_or(place.restarts, |next| next.restarts);
            if restarts != place.restarts {
                place.restarts = restarts;
                announced.insert(*shard, Place { restarts, ..Place::default() });
            }
        }
        self.published.send_replace(announced);
    }

    fn start_over(&mut self, round: &mut Round, shard: ShardId) {
        let Some(place) = round.places.get_mut(&shard) else { return };
        if place.known == Cursor::default() && place.asked {
            // From 0 any history fits: a front end that says otherwise is asked again later.
            tracing::error!(%shard, "a front end does not know the beginning of its own log");
            self.cut_link();
            return;
        }
        tracing::warn!(%shard, had = %place.reached, "the shard has another history; its orders are fetched anew");
        place.start_over();
        round.changes.push(Change::Forget { shard });
        round.follow.insert(shard);
    }

    fn replace_book(&mut self, damage: &BookError) -> Result<(), BookError> {
        self.places.values_mut().for_each(Place::start_over);
        self.published.send_replace(self.places.clone());
        self.book.replace(&self.readers, damage)?;
        self.follow(&self.places.keys().copied().collect());
        Ok(())
    }

    fn follow(&mut self, shards: &BTreeSet<ShardId>) {
        let Some(link) = &self.link else { return };
        for shard in shards {
            let Cursor { index, chain } = self.places.get(shard).map(|place| place.known).unwrap_or_default();
            if link.send(&InternalCall::Follow { shard: *shard, after: index, chain }).is_err() {
                // Another link comes, over which all shards are asked for.
                return;
            }
        }
    }

    /// Whoever keeps the link opens another one after a pause.
    fn cut_link(&mut self) {
        if let Some(link) = self.link.take() {
            link.cut();
        }
    }
}

impl Round {
    fn follow_all(&mut self) {
        for (shard, place) in &mut self.places {
            place.ask_again();
            self.follow.insert(*shard);
        }
    }

    fn feed(&mut self, feed: Feed) {
        let Feed { shard, after, upto, chain, sales } = feed;
        let Some(place) = self.places.get_mut(&shard) else {
            tracing::warn!(%shard, "a feed of a shard that there is not");
            return;
        };
        if after != place.next_after || upto < after {
            if !place.asked {
                tracing::warn!(%shard, %after, expected = %place.next_after, "a feed does not fit; asking again");
                place.ask_again();
                self.follow.insert(shard);
            }
            return;
        }
        place.asked = false;
        place.next_after = upto;
        place.reached = place.reached.max(upto);
        if !sales.is_empty() {
            self.changes.push(Change::Sales { shard, sales });
        }
        if let Some(chain) = chain {
            place.known = Cursor { index: upto, chain };
            self.changes.push(Change::Advance { shard, cursor: place.known });
        }
    }
}

fn weight_of(input: &Input) -> usize {
    match input {
        Input::Feed(feed) => feed.sales.len() + 1,
        Input::Connected(_) | Input::StartOver(_) | Input::Damaged(_) => 1,
    }
}

#[cfg(test)]
mod tests;
