//! What order nodes follow: the part of the front end's internal listener that feeds them, without its
//! runtime. The feeds and the rule by which history is read from a replica are the real ones.

use std::time::Duration;

use protocol::call::{Content, Feed, Query};
use protocol::ids::{Chain, Index};

use crate::network::{Down, LinkId, Peer};
use crate::pool::SHARD;
use crate::reads::Reader;
use crate::world::{Event, FrontId, World};

/// How many entries are looked at for a page of sales that is read for a follower. Few, so that pages end inside of a
/// history.
const SALES_PAGE: u32 = 7;
/// How long one waits whose read came to nothing.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Follower {
    /// Whoever follows anew no longer wants what it followed before.
    number: u64,
    after: Index,
    chain: Chain,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until a writer is in office, what is committed is not known.
    Waiting,
    Checking,
    Feeding,
    Reading,
    Pausing {
        until: Duration,
        checked: bool,
    },
}

impl World {
    pub(crate) fn follow(&mut self, id: FrontId, order: usize, after: Index, chain: Chain) {
        let Some(front) = self.fronts.get_mut(&id) else { return };
        front.next_read += 1;
        let number = front.next_read;
        front.followers.insert(order, Follower { number, after, chain, state: State::Waiting });
        self.drive_followers(id);
    }

    pub(crate) fn drive_followers(&mut self, id: FrontId) {
        for order in 0..self.plan.order_nodes {
            while self.drive_follower(id, order) {}
        }
    }

    /// Whether it may go on at once.
    fn drive_follower(&mut self, id: FrontId, order: usize) -> bool {
        let now = self.now;
        let Some(front) = self.fronts.get_mut(&id) else { return false };
        let commit = front.shards.get(SHARD).expect("the shard is there").commit_index();
        let Some(follower) = front.followers.get_mut(&order) else { return false };
        let (after, number) = (follower.after, follower.number);
        match follower.state {
            State::Waiting if !front.writer.is_leading() => false,
            State::Waiting if after == Index(0) => {
                follower.state = State::Feeding;
                true
            }
            State::Waiting if after > commit => {
                self.start_over(id, order);
                false
            }
            State::Waiting => {
                follower.state = State::Checking;
                self.begin_read(id, Reader::Follower { order, number }, Query::ChainAt(after), true);
                false
            }
            State::Pausing { until, .. } if until > now => false,
            State::Pausing { checked, .. } => {
                follower.state = if checked { State::Feeding } else { State::Waiting };
                true
            }
            State::Feeding if commit <= after => false,
            State::Feeding => match front.feeds.after(SHARD, after) {
                Some(feed) => {
                    follower.after = feed.upto;
                    self.feed(id, order, feed);
                    true
                }
                None => {
                    follower.state = State::Reading;
                    let query = Query::Sales { after, limit: SALES_PAGE };
                    self.begin_read(id, Reader::Follower { order, number }, query, true);
                    false
                }
            },
            State::Checking | State::Reading => false,
        }
    }

    /// What was read for a follower, or nothing if it could not be read.
    pub(crate) fn read_for_follower(
        &mut self,
        id: FrontId,
        (order, number): (usize, u64),
        content: Option<Content>,
    ) {
        let until = self.now + PAUSE;
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let follower = front.followers.get_mut(&order).filter(|follower| follower.number == number);
        let Some(follower) = follower else { return };
        match (follower.state, content) {
            (State::Checking, Some(Content::ChainAt(found))) if found == Some(follower.chain) => {
                follower.state = State::Feeding;
            }
            (State::Checking, Some(_)) => self.start_over(id, order),
            (State::Reading, Some(Content::Sales { sales, upto, chain })) => {
                let after = follower.after;
                follower.after = upto;
                follower.state = State::Feeding;
                self.feed(id, order, Feed { shard: SHARD, after, upto, chain, sales });
            }
            (state @ (State::Checking | State::Reading), _) => {
                follower.state = State::Pausing { until, checked: state == State::Reading };
                self.at(until, Event::ReadTick { front: id });
            }
            // It follows from elsewhere by now.
            (State::Waiting | State::Feeding | State::Pausing { .. }, _) => {}
        }
    }

    fn feed(&mut self, id: FrontId, order: usize, feed: Feed) {
        self.send_down(LinkId { front: id, peer: Peer::Order(order) }, Down::Feed(feed));
    }

    fn start_over(&mut self, id: FrontId, order: usize) {
        if let Some(front) = self.fronts.get_mut(&id) {
            front.followers.remove(&order);
        }
        self.send_down(LinkId { front: id, peer: Peer::Order(order) }, Down::StartOver);
    }
}
