//! Callers in an open loop: request `n` is due `n / rate` seconds after the start, whether or not the store
//! has answered those before it, and every one of them is recorded. Each caller has one call at a time: when all of
//! them wait in a stall, what is due meanwhile begins late.

pub(crate) mod choice;
pub(crate) mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bookends::Client;
use bookends::random::Random;
use common::api::{Book, Order};
use history::{Answer, Call, CallNumber, ClientId, History, Moment, Start};
use parking_lot::Mutex;
use protocol::ids::BookId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use self::wire::{Got, Manner, Wire};
use crate::error::ChaosError;

/// How long a caller goes on asking for one write.
const PATIENCE: Duration = Duration::from_secs(12);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How much is called for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Calls a second.
    pub(crate) rate: u32,
    /// How many may be under way at a time.
    pub(crate) callers: u32,
    /// Decides what is called for.
    pub(crate) seed: u64,
}

/// The callers at work.
#[derive(Debug)]
pub(crate) struct Load {
    desk: Arc<Desk>,
    callers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// All that the callers saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Every call.
    pub(crate) history: History,
    /// Every order that was acknowledged, with its call.
    pub(crate) orders: Vec<(CallNumber, Order)>,
    /// Answers that there must not be.
    pub(crate) strange: Vec<String>,
    /// How many calls there were in the end.
    pub(crate) counts: Counts,
}

/// How many calls there were so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Sent.
    pub(crate) sent: u64,
    /// Answered.
    pub(crate) answered: u64,
    /// Reads that were not answered.
    pub(crate) failed: u64,
    /// Writes of which the outcome stayed unknown.
    pub(crate) unknown: u64,
}

/// What the callers share.
#[derive(Debug)]
struct Desk {
    wire: Wire,
    demand: Demand,
    books: Vec<BookId>,
    begin: Instant,
    next: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    record: Mutex<History>,
    orders: Mutex<Vec<(CallNumber, Order)>>,
    strange: Mutex<Vec<String>>,
}

impl Load {
    /// Begins, after a look at all books at rest.
    pub(crate) async fn start(
        url: &str,
        client: &Client,
        token: &str,
        demand: Demand,
    ) -> Result<Self, ChaosError> {
        let page =
            client.list(Some(1000), None).await.map_err(|problem| ChaosError::Call(problem.to_string()))?;
        let start: Start = page.books.iter().map(|book: &Book| (book.id, wire::seen(book))).collect();
        let wire = Wire::new(url, token).map_err(|problem| ChaosError::Call(problem.to_string()))?;
        let desk = Arc::new(Desk {
            wire,
            demand,
            books: start.keys().copied().collect(),
            begin: Instant::now(),
            next: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            record: Mutex::new(History::new(start)),
            orders: Mutex::default(),
            strange: Mutex::default(),
        });
        let stop = watch::Sender::new(false);
        let mut callers = JoinSet::new();
        for number in 0..demand.callers {
            let random = Random::seeded(demand.seed.wrapping_add(u64::from(number) << 32));
            let caller = Caller { id: ClientId(number), desk: Arc::clone(&desk), random };
            callers.spawn(caller.run(stop.subscribe()));
        }
        Ok(Self { desk, callers, stop })
    }

    /// How much has been done.
    pub(crate) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Desk { sent, answered, failed, unknown, .. } = &*self.desk;
        Counts { sent: of(sent), answered: of(answered), failed: of(failed), unknown: of(unknown) }
    }

    /// The moment that it is.
    pub(crate) fn now(&self) -> Moment {
        self.desk.now()
    }

    /// Everybody finishes what they are at; then each book is looked at once more, past the cache.
    pub(crate) async fn finish(mut self) -> Seen {
        self.stop.send_replace(true);
        while let Some(ended) = self.callers.join_next().await {
            if let Err(problem) = ended {
                self.desk.strange.lock().push(format!("a caller ended: {problem}"));
            }
        }
        let last = ClientId(self.desk.demand.callers);
        for past_cache in [false, true] {
            for book in &self.desk.books {
                let manner = Manner { key: None, past_cache, narrow: false };
                self.desk.read(last, &Call::Look(*book), manner).await;
            }
        }
        let desk = &self.desk;
        let history = std::mem::take(&mut *desk.record.lock());
        let orders = std::mem::take(&mut *desk.orders.lock());
        let strange = std::mem::take(&mut *desk.strange.lock());
        Seen { history, orders, strange, counts: self.counts() }
    }
}

struct Caller {
    id: ClientId,
    desk: Arc<Desk>,
    random: Random,
}

impl Caller {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let number = self.desk.next.fetch_add(1, Ordering::Relaxed);
            let seconds =
                f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(self.desk.demand.rate);
            let due = self.desk.begin + Duration::from_secs_f64(seconds);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let call = choice::choose(&self.desk.books, &mut self.random);
            if matches!(call, Call::Look(_) | Call::Page) {
                let manner = Manner {
                    key: None,
                    past_cache: self.random.below(2) == 0,
                    narrow: self.random.below(4) == 0,
                };
                self.desk.read(self.id, &call, manner).await;
            } else {
                self.write(&call).await;
            }
        }
    }

    /// One write under one key. Most callers ask until they know, some give up.
    async fn write(&mut self, call: &Call) {
        let desk = Arc::clone(&self.desk);
        // Of what shows no version, too much that stays unknown would leave the checker with too much to try.
        let is_shown = !matches!(call, Call::Put(_) | Call::Load(_) | Call::Remove(_));
        let gives_up = is_shown && self.random.below(4) == 0;
        let key = Uuid::new_v4().to_string();
        let manner = Manner { key: Some(&key), past_cache: false, narrow: false };
        let begin = Instant::now();
        let number = desk.send(self.id, call);
        let mut is_in_doubt = false;
        loop {
            let got = desk.wire.attempt(call, manner).await;
            let answered = desk.now();
            let answer = match got {
                Got::Answer(answer, order) => {
                    if let Some(order) = order {
                        let look = self.random.below(10) == 0;
                        desk.sold(number, call, order, look).await;
                    }
                    Some(answer)
                }
                Got::Strange(what) => {
                    desk.strange.lock().push(what);
                    return;
                }
                Got::NotDone if gives_up && !is_in_doubt => Some(Answer::NotDone),
                Got::NotDone => None,
                Got::Nothing => {
                    is_in_doubt = true;
                    None
                }
            };
            if let Some(answer) = answer {
                desk.record.lock().answer(number, answered, answer);
                desk.answered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if gives_up || begin.elapsed() > PATIENCE {
                desk.unknown.fetch_add(1, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Desk {
    fn now(&self) -> Moment {
        Moment(u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Notes that a call is sent now.
    fn send(&self, client: ClientId, call: &Call) -> CallNumber {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.record.lock().send(client, self.now(), call.clone())
    }

    /// One read, without retries.
    async fn read(&self, client: ClientId, call: &Call, manner: Manner<'_>) {
        let number = self.send(client, call);
        let got = self.wire.attempt(call, manner).await;
        match got {
            Got::Answer(answer, _) => {
                self.record.lock().answer(number, self.now(), answer);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Got::Nothing | Got::NotDone => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
            Got::Strange(what) => self.strange.lock().push(what),
        }
    }

    /// An order was acknowledged: it is what was asked for, and it is there when it is asked for.
    async fn sold(&self, number: CallNumber, call: &Call, order: Order, look: bool) {
        if let Call::Buy(lines) = call {
            let asked = lines.iter().map(|line| (line.book, line.quantity));
            if !asked.eq(order.items.iter().map(|item| (item.id, item.quantity))) {
                self.strange.lock().push(format!("{call} was answered with another order: {order:?}"));
            }
        }
        if look {
            match self.wire.order(&order.order_id).await {
                Some(Ok(found)) if found == order => {}
                // The store can't tell now. That is no call of the history, so it does not count as one.
                None => {}
                Some(other) => {
                    let what = format!("order {} was acknowledged, and then: {other:?}", order.order_id);
                    self.strange.lock().push(what);
                }
            }
        }
        self.orders.lock().push((number, order));
    }
}
