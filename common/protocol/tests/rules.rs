//! The rules that look like details: for each one marked (!) in the design, a test that fails without it.
//!
//! Those about the cache (a void flight is not joined) are tested where they live, in `fill`.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::time::{Duration, Instant};

use protocol::call::LogPage;
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BookId, Chain, Digest, Epoch, Index, NodeId, ShardId, StoreId, Timestamp};
use protocol::message::{
    Append, Appended, Recover, Refused, Reply, Said, Sealed, Standing, ToReplica, Touched,
};
use protocol::replica::{self, Done, Replica, Step, may_be_read};
use protocol::view::{Member, View};
use protocol::writer::{Effect, Options, SwapResult, Writer};

const A: &str = "a";
const B: &str = "b";

#[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
fn zero() -> Instant {
    Instant::now()
}

fn command(key: &[u8]) -> EncodedCommand {
    EncodedCommand::of(&Command {
        key: CommandKey::new(Scope::Public, key),
        at: Timestamp(0),
        action: Action::RemoveBook { book: BookId::try_from(1).unwrap() },
    })
}

/// A log of entries of one epoch.
fn log(epoch: u64, count: u64) -> Vec<Entry> {
    let mut chain = Chain::default();
    (1..=count)
        .map(|index| {
            let entry = Entry::after(chain, Index(index), Epoch(epoch), command(b"k"));
            chain = entry.chain;
            entry
        })
        .collect()
}

fn store_of(node: &str) -> StoreId {
    StoreId(if node == A { 1 } else { 2 })
}

fn view(epoch: u64, members: &[&str]) -> View {
    let members = members.iter().map(|node| Member { node: (*node).into(), store: store_of(node) }).collect();
    View { shard: ShardId(0), epoch: Epoch(epoch), writer: "f".into(), members, last_index: Index(0) }
}

/// A writer in office at epoch 2 with members `a` and `b`, and the time.
struct Office {
    writer: Writer<u64>,
    now: Instant,
}

impl Office {
    fn new() -> Self {
        let mut office = Self::sealing();
        office.seal(A, 2);
        office.seal(B, 2);
        assert!(office.writer.is_leading());
        office
    }

    /// On the way there: the members are asked for their promise.
    fn sealing() -> Self {
        Self::entering().0
    }

    /// The same, with what the view's being stored comes to.
    fn entering() -> (Self, Vec<Effect<u64>>) {
        let now = zero();
        let options = Options { write_timeout: Duration::from_secs(1), patience: Duration::from_secs(9) };
        let replicas: Vec<NodeId> = vec![A.into(), B.into()];
        let mut writer = Writer::new(ShardId(0), "f".into(), replicas, options, now);
        writer.tick(now);
        for node in [A, B] {
            writer.handle_connected(&node.into());
        }
        writer.view_read(now, Ok(Some(view(1, &[A, B]))));
        let effects = writer.swapped(now, SwapResult::Swapped);
        (Self { writer, now }, effects)
    }

    fn say(&mut self, node: &str, store: StoreId, reply: Reply) -> Vec<Effect<u64>> {
        self.now += Duration::from_millis(1);
        self.writer.handle_said(self.now, &node.into(), Said { store, reply })
    }

    fn seal(&mut self, node: &str, epoch: u64) -> Vec<Effect<u64>> {
        let sealed =
            Sealed { epoch: Epoch(epoch), last: Index(0), chain: Chain::default(), commit: Index(0) };
        self.say(node, store_of(node), Reply::Sealed(sealed))
    }

    fn submit(&mut self) -> Vec<Entry> {
        let effects = self.writer.submit(self.now, 7, command(b"k"));
        effects.iter().find_map(entries_of).unwrap()
    }

    /// Drops `b`, and brings the view of `a` alone to where its swap is on its way.
    fn drop_b(&mut self) {
        self.writer.handle_lost(self.now, &B.into());
        let effects = self.say(A, store_of(A), appended(2, &[]));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Swap { .. })), "{effects:?}");
    }

    /// A member's answers were enough for the batch.
    fn is_replicated(effects: &[Effect<u64>]) -> bool {
        effects.iter().any(|effect| matches!(effect, Effect::Invalidate { .. }))
    }
}

fn entries_of(effect: &Effect<u64>) -> Option<Vec<Entry>> {
    match effect {
        Effect::Send { message: ToReplica::Append(append), .. } => Some(append.entries.clone()),
        _ => None,
    }
}

fn appended(epoch: u64, entries: &[Entry]) -> Reply {
    let (last, chain) = entries.last().map_or_else(Default::default, |entry| (entry.index, entry.chain));
    Reply::Appended(Appended {
        epoch: Epoch(epoch),
        last,
        chain,
        digest: Digest(0),
        outcomes: entries.iter().map(|_| Outcome::Removed).collect(),
        touched: Touched::Keys(Vec::new()),
    })
}

/// The replica `b` with an empty log, its rows counted.
fn replica() -> Replica {
    let standing = Standing {
        store: store_of(B),
        promise: Epoch(0),
        last: Index(0),
        chain: Chain::default(),
        digest: Digest(0),
        commit: Index(0),
        view: None,
    };
    let mut replica = Replica::new(B.into(), standing, Epoch(0), []);
    assert_eq!(replica.counted(), []);
    replica
}

/// Hands a message to a replica whose disk works, and returns what it wanted of it and what it said.
fn hand(replica: &mut Replica, message: ToReplica) -> (Vec<Step>, Vec<Reply>) {
    let effects = replica.handle(zero(), message);
    carry_out(replica, effects)
}

fn carry_out(replica: &mut Replica, effects: Vec<replica::Effect>) -> (Vec<Step>, Vec<Reply>) {
    let (mut steps, mut replies) = (Vec::new(), Vec::new());
    let mut todo: std::collections::VecDeque<_> = effects.into();
    while let Some(effect) = todo.pop_front() {
        match effect {
            replica::Effect::Persist(step) => {
                let done = match &step {
                    Step::Promise { .. } => Done::Promised,
                    Step::Append(change) => Done::Appended {
                        outcomes: change.entries.iter().map(|_| Outcome::Removed).collect(),
                        touched: Vec::new(),
                        digest: Digest(0),
                    },
                    Step::Undo { .. } => Done::Undone { digest: Digest(0) },
                    Step::Outcomes { .. } => Done::Outcomes(Vec::new()),
                    Step::Fetch { .. } => Done::Fetched(Vec::new()),
                };
                steps.push(step);
                todo.extend(replica.persisted(zero(), done));
            }
            replica::Effect::Send(said) => replies.push(said.reply),
            replica::Effect::Pull { .. }
            | replica::Effect::FetchSnapshot { .. }
            | replica::Effect::Recount { .. }
            | replica::Effect::Note(_) => {}
        }
    }
    (steps, replies)
}

fn append(epoch: u64, entries: &[Entry]) -> ToReplica {
    ToReplica::Append(Append {
        epoch: Epoch(epoch),
        before: Index(0),
        chain_before: Chain::default(),
        commit: Index(0),
        entries: entries.to_vec(),
    })
}

fn recover(epoch: u64, members: &[&str]) -> ToReplica {
    let view = view(epoch, members);
    ToReplica::Recover(Recover { view, source: A.into(), commit: Index(0), afresh: false })
}

fn undoes(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Undo { .. }))
}

/// A view names store ids, not hosts. Safeguard: `Writer::handle_said` compares the store that speaks
/// with the one in the view. Without it a file made anew would be counted as if it had the whole log: its
/// promise here, and its batch below.
#[test]
fn a_file_made_anew_under_an_old_name_is_no_member() {
    let mut office = Office::sealing();
    office.seal(A, 2);
    let answer = Sealed { epoch: Epoch(2), last: Index(0), chain: Chain::default(), commit: Index(0) };
    office.say(B, StoreId(99), Reply::Sealed(answer));
    assert!(!office.writer.is_leading());

    let mut office = Office::new();
    let batch = office.submit();
    office.say(A, store_of(A), appended(2, &batch));
    let effects = office.say(B, StoreId(99), appended(2, &batch));
    assert!(!Office::is_replicated(&effects), "{effects:?}");
}

/// After a swap whose outcome is unknown nothing is acknowledged until the store has been read back.
/// Safeguard: `Writer::swapped` asks the store, and no answer counts meanwhile. Without it a write could
/// be acknowledged under a view that another front end's view has already replaced.
#[test]
fn after_an_unknown_swap_nothing_is_acknowledged_before_the_store_was_read_back() {
    let mut office = Office::new();
    let batch = office.submit();
    office.drop_b();
    let effects = office.writer.swapped(office.now, SwapResult::Unknown);
    assert_eq!(effects, [Effect::ReadView]);
    for epoch in [2, 3] {
        assert_eq!(office.seal(A, epoch), []);
        assert_eq!(office.say(A, store_of(A), appended(epoch, &batch)), []);
    }
    let other = View { writer: "g".into(), ..view(3, &[A, B]) };
    let effects = office.writer.view_read(office.now, Ok(Some(other)));
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Complete { ticket: 7, result: Err(_) })),
        "{effects:?}"
    );
}

/// An answer of another epoch counts for nothing, even with the same chain. Safeguard: the epoch is compared
/// in `Writer::handle_appended`. Without it an answer from before the seal would be counted, whose replica may
/// have undone the entry since.
#[test]
fn an_answer_of_another_epoch_counts_for_nothing() {
    let mut office = Office::new();
    let batch = office.submit();
    office.drop_b();
    office.writer.swapped(office.now, SwapResult::Swapped);
    office.seal(A, 3);
    assert!(office.writer.is_leading());
    let effects = office.say(A, store_of(A), appended(2, &batch));
    assert!(!Office::is_replicated(&effects), "{effects:?}");
    let effects = office.say(A, store_of(A), appended(3, &batch));
    assert!(Office::is_replicated(&effects), "{effects:?}");
}

/// The keys leave the caches, and then the commit index moves. Safeguard: `Writer::end_replication` waits for
/// `invalidated`. Without it a caller could be told of its write and then be shown what was cached before it.
#[test]
fn the_keys_leave_the_caches_before_the_commit_index_moves() {
    let mut office = Office::new();
    let batch = office.submit();
    office.say(A, store_of(A), appended(2, &batch));
    let effects = office.say(B, store_of(B), appended(2, &batch));
    assert!(Office::is_replicated(&effects));
    let told = |effect: &Effect<u64>| matches!(effect, Effect::Commit(_) | Effect::Complete { .. });
    assert!(!effects.iter().any(told), "{effects:?}");
    assert_eq!(office.writer.commit_index(), Index(0));
    let effects = office.writer.invalidated(office.now, Index(1));
    assert_eq!(effects.iter().filter(|effect| told(effect)).count(), 2, "{effects:?}");
    assert_eq!(office.writer.commit_index(), Index(1));
}

/// A new writer's cache starts empty, and what it commits by taking over is in no cache. Safeguard:
/// `Writer::take_office` begins a fresh cache once more. Without it a read of a member that was behind would be
/// held back, then released and cached by the commit that levels the logs, and nothing would drop it.
#[test]
fn what_was_read_before_the_logs_were_level_is_not_cached() {
    let mut office = Office::sealing();
    assert_eq!(office.seal(A, 2), []);
    let effects = office.seal(B, 2);
    let begins_afresh = |effect: &Effect<u64>| matches!(effect, Effect::Read { view: Some(_), fresh: true });
    let afresh = effects.iter().position(begins_afresh);
    let commits = effects.iter().position(|effect| matches!(effect, Effect::Commit(_)));
    assert_eq!((afresh, commits), (Some(0), Some(1)), "{effects:?}");
}

/// A replica never undoes anything while it is in the view. Safeguard: `Replica::handle_recover` looks for
/// itself in the view. Without it a member could undo what was acknowledged because it has it.
#[test]
fn a_replica_in_the_view_undoes_nothing() {
    let mut replica = replica();
    hand(&mut replica, append(1, &log(1, 3)));
    let (steps, replies) = hand(&mut replica, recover(2, &[A, B]));
    assert_eq!((steps, replies), (Vec::new(), Vec::new()));
    assert!(!replica.is_resyncing());
}

/// Left out of a view, a replica makes that view's epoch its promise, durably, and only then undoes.
/// Safeguard: `Replica::handle_recover` persists first, and `failed` begins no resync. Without it the writer of
/// the older view could have it take, and count, entries again that the members do not share.
#[test]
fn the_promise_is_durable_before_anything_is_undone() {
    let mut replica = replica();
    hand(&mut replica, append(1, &log(1, 3)));
    let effects = replica.handle(zero(), recover(2, &[A]));
    let promise = Step::Promise { epoch: Epoch(2), view: Some(view(2, &[A])) };
    assert_eq!(effects, [replica::Effect::Persist(promise)], "the promise, and nothing else yet");
    replica.failed(zero(), "no space left".to_owned());
    assert!(!replica.is_resyncing());
    hand(&mut replica, recover(2, &[A]));
    let page = LogPage::Entries { entries: log(2, 3), last: Index(3) };
    let effects = replica.handle_pulled(zero(), &A.into(), page);
    assert!(undoes(&carry_out(&mut replica, effects).0));
    let (steps, replies) = hand(&mut replica, append(1, &log(1, 3)));
    let sealed = Refused::SealedBy { epoch: Epoch(1), promise: Epoch(2) };
    assert_eq!((steps, replies), (Vec::new(), vec![Reply::Refused(sealed)]));
}

/// A replica does not undo what it has acknowledged under the epoch of a writer that may still count that.
/// Safeguard: `Replica::may_undo` compares the epoch of the last acknowledged append. Without it an answer on
/// its way could make a replica a member whose entries are gone.
#[test]
fn what_was_acknowledged_to_the_same_writer_is_not_undone() {
    let mut replica = replica();
    hand(&mut replica, recover(2, &[A]));
    let (_, replies) = hand(&mut replica, append(2, &log(1, 3)));
    assert!(matches!(replies[..], [Reply::Appended(_)]));
    hand(&mut replica, recover(2, &[A]));
    let page = LogPage::Entries { entries: log(2, 3), last: Index(3) };
    let effects = replica.handle_pulled(zero(), &A.into(), page);
    let (steps, _) = carry_out(&mut replica, effects);
    assert!(!undoes(&steps), "{steps:?}");
    assert_eq!(replica.standing().last, Index(3));
}

/// The same for a snapshot, which undoes too: it must hold all that was acknowledged.
#[test]
fn a_snapshot_must_hold_what_was_acknowledged_to_the_same_writer() {
    let mut replica = replica();
    hand(&mut replica, recover(2, &[A]));
    hand(&mut replica, append(2, &log(1, 3)));
    hand(&mut replica, recover(2, &[A]));
    replica.handle_pulled(zero(), &A.into(), LogPage::Gone);
    assert!(!replica.wants_snapshot(Index(2)));
    assert!(replica.wants_snapshot(Index(3)));
}

/// A joiner promises the writer's epoch before its answers count. Safeguard: `Replica::handle_append` makes the
/// append's epoch the promise in the same step. Without it an older writer could still add to its log after the
/// newer one has counted it.
#[test]
fn an_append_makes_its_epoch_the_promise_in_the_same_step() {
    let mut replica = replica();
    let (steps, _) = hand(&mut replica, append(3, &log(3, 2)));
    let [Step::Append(change)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((change.promise, change.appended_epoch), (Epoch(3), Epoch(3)));
    let (steps, _) = hand(&mut replica, append(4, &[]));
    let [Step::Append(change)] = &steps[..] else { panic!("also where nothing is new: {steps:?}") };
    assert_eq!(change.promise, Epoch(4));
    assert_eq!(replica.standing().promise, Epoch(4));
}

/// A replica is let in when index AND chain are equal. Safeguard: `Writer::admit_level_joiner` compares both.
/// Without the chain, a replica with as many entries of another history would become a member.
#[test]
fn a_replica_with_another_history_of_the_same_length_is_not_let_in() {
    let mut office = Office::new();
    office.drop_b();
    office.writer.swapped(office.now, SwapResult::Swapped);
    office.seal(A, 3);
    let batch = office.submit();
    office.say(A, store_of(A), appended(3, &batch));
    office.writer.invalidated(office.now, Index(1));
    let join = Reply::Join { epoch: Epoch(3), last: Index(0), chain: Chain::default() };
    office.say(B, store_of(B), join);
    let swaps = |effects: &[Effect<u64>]| effects.iter().any(|e| matches!(e, Effect::Swap { .. }));
    let effects = office.say(B, store_of(B), appended(3, &log(9, 1)));
    assert!(!swaps(&effects), "{effects:?}");
    let effects = office.say(B, store_of(B), appended(3, &batch));
    assert!(swaps(&effects), "{effects:?}");
}

/// A new writer reads by no view before it is in office. Safeguard: `Writer::enter_view` reads at once only within a
/// term. Without it a front end asks a member that the writer before can still append to; what that one commits and
/// acknowledges then drops nothing from this front end's cache, so that who asks for it next shares the answer from
/// before. (Found by the simulator.)
#[test]
fn a_new_writer_reads_by_no_view_before_it_is_in_office() {
    let reads = |effects: &[Effect<u64>]| -> Vec<(Option<Epoch>, bool)> {
        let read = |effect: &Effect<u64>| match effect {
            Effect::Read { view, fresh } => Some((view.as_ref().map(|view| view.epoch), *fresh)),
            _ => None,
        };
        effects.iter().filter_map(read).collect()
    };
    let (mut office, entered) = Office::entering();
    assert_eq!(reads(&entered), [(None, true)]);
    assert_eq!(reads(&office.seal(A, 2)), []);
    assert_eq!(reads(&office.seal(B, 2)), [(Some(Epoch(2)), true)]);
    office.drop_b();
    let within_the_term = office.writer.swapped(office.now, SwapResult::Swapped);
    assert_eq!(reads(&within_the_term), [(Some(Epoch(3)), false)]);
}

/// A replica that has promised a higher epoch does not answer a read that names an older one. Safeguard:
/// `replica::may_be_read`, which the catalog node calls before and after each read. Without it a replica that was left out would show what is old to a reader that
/// does not know it.
#[test]
fn a_read_of_an_older_view_is_not_answered() {
    let mut replica = replica();
    hand(&mut replica, ToReplica::Seal(view(2, &[A, B])));
    assert_eq!(may_be_read(replica.standing().promise, Epoch(2)), Ok(()));
    hand(&mut replica, recover(3, &[A]));
    assert_eq!(may_be_read(replica.standing().promise, Epoch(2)), Err(Epoch(3)));
}

/// A page that a member made before the writer's last append came tells nothing of what that append brought.
/// Safeguard: `Replica::take_page` lets the writer judge what it has sent itself. Without it the replica finds
/// that the members lack what is committed, and refuses all work from then on. (Found by the model.)
#[test]
fn a_page_older_than_a_commit_is_no_other_history() {
    let mut replica = replica();
    hand(&mut replica, recover(2, &[A]));
    let ToReplica::Append(mut committed) = append(2, &log(2, 3)) else { unreachable!() };
    committed.commit = Index(3);
    hand(&mut replica, ToReplica::Append(committed));
    let page = LogPage::Entries { entries: Vec::new(), last: Index(0) };
    let effects = replica.handle_pulled(zero(), &A.into(), page);
    let (steps, replies) = carry_out(&mut replica, effects);
    assert_eq!((replica.halted(), steps), (None, Vec::new()));
    assert!(matches!(replies[..], [Reply::Join { last: Index(3), .. }]), "{replies:?}");
}
