//! A replica under a script: the script plays the writer, its peers and the clock; the disk is a real one.
//!
//! At the beginning of a script its rows have been counted; after a `restart` they are by `counted` or `damaged`.

use std::error::Error;
use std::time::{Duration, Instant};

use goldenscript::{ArgumentConsumer, Command, Context};
use protocol::call::LogPage;
use protocol::ids::{Epoch, Index, ShardId, StoreId};
use protocol::message::{Append, Recover, ToReplica};
use protocol::replica::{Effect, Replica, Step, may_be_read};
use protocol::view::{Member, View};

use crate::disk::Disk;
use crate::logs::Logs;
use crate::show;

type Failure = Box<dyn Error>;

/// How many committed entries a log keeps, unless it `keeps little`: more than any script has.
const RETENTION: u64 = 1000;

pub(crate) struct Runner {
    now: Instant,
    disk: Disk,
    replica: Replica,
    logs: Logs,
    disk_fails: bool,
}

impl Runner {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
    pub(crate) fn new() -> Self {
        let disk = Disk::new(StoreId(2), RETENTION, true);
        let mut replica = start(&disk);
        assert_eq!(replica.counted(), []);
        Self { now: Instant::now(), disk, replica, logs: Logs::new(), disk_fails: false }
    }

    fn message(&self, command: &Command) -> Result<ToReplica, Failure> {
        let mut args = command.consume_args();
        let epoch = Epoch(number(&mut args, "epoch")?.unwrap_or(1));
        let log = args.take_key("log").unwrap_or("main").to_owned();
        let after = number(&mut args, "after")?.unwrap_or(0);
        let upto = number(&mut args, "upto")?.unwrap_or(after);
        let commit = Index(number(&mut args, "commit")?.unwrap_or(0));
        let message = match command.name.as_str() {
            "append" => {
                let chain_before = self.logs.chain(&log, after)?;
                let entries = self.logs.between(&log, after, upto)?;
                ToReplica::Append(Append { epoch, before: Index(after), chain_before, commit, entries })
            }
            "seal" => ToReplica::Seal(view(epoch, &mut args)),
            "recover" => {
                let source = args.take_key("source").unwrap_or("a").into();
                let afresh = args.take_key("afresh").is_some();
                ToReplica::Recover(Recover { view: view(epoch, &mut args), source, commit, afresh })
            }
            "fetch" => ToReplica::Fetch { epoch, after: Index(after), upto: Index(upto) },
            "recount" => ToReplica::Recount { epoch },
            "report" => ToReplica::Report,
            other => return Err(format!("unknown command {other}").into()),
        };
        args.reject_next()?;
        Ok(message)
    }

    fn page(&mut self, command: &Command) -> Result<Vec<Effect>, Failure> {
        let mut args = command.consume_args();
        let log = args.take_key("log").unwrap_or("main").to_owned();
        let after = number(&mut args, "after")?.unwrap_or(0);
        let last = self.logs.last(&log);
        let upto = number(&mut args, "upto")?.unwrap_or(last.0);
        let page = match args.next_pos() {
            Some("gone") => LogPage::Gone,
            Some(_) => LogPage::Failed("cut off".to_owned()),
            None => LogPage::Entries { entries: self.logs.between(&log, after, upto)?, last },
        };
        args.reject_next()?;
        Ok(self.replica.handle_pulled(self.now, &"a".into(), page))
    }

    /// A snapshot of a log comes, and is installed if it is wanted.
    fn snapshot(&mut self, command: &Command) -> Result<Vec<Effect>, Failure> {
        let mut args = command.consume_args();
        let log = args.take_key("log").unwrap_or("main").to_owned();
        let upto = number(&mut args, "upto")?.unwrap_or_else(|| self.logs.last(&log).0);
        args.reject_next()?;
        if !self.replica.wants_snapshot(Index(upto)) {
            return Ok(self.replica.handle_pull_failed(self.now));
        }
        let mut peer = Disk::new(StoreId(1), RETENTION, true);
        let entries = self.logs.between(&log, 0, upto)?;
        let change = protocol::replica::Change {
            promise: Epoch(1),
            appended_epoch: Epoch(1),
            commit: Index(0),
            entries,
        };
        peer.run(&Step::Append(change));
        self.disk.install(peer.tables, Index(0));
        Ok(self.replica.snapshot_installed(self.now, self.disk.standing(), self.disk.tail()))
    }

    /// Carries out effects, and shows them and what comes of them.
    fn carry_out(&mut self, effects: Vec<Effect>) -> String {
        let mut output = String::new();
        for effect in effects {
            output.push_str(&show::replica_effect(&effect));
            let Effect::Persist(step) = effect else {
                output.push('\n');
                continue;
            };
            let more = if self.disk_fails {
                output.push_str(": it fails\n");
                self.replica.failed(self.now, "no space left".to_owned())
            } else {
                let done = self.disk.run(&step);
                output.push_str(&format!(": {}\n", show::done(&done)));
                self.replica.persisted(self.now, done)
            };
            output.push_str(&self.carry_out(more));
        }
        output
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let first = command.consume_args().next_pos().unwrap_or("");
        let effects = match command.name.as_str() {
            "extend" | "branch" => return self.logs.command(command),
            "disk" => {
                self.disk_fails = first == "fails";
                self.disk.can_undo = first != "can't undo";
                self.disk.retention = if first == "keeps little" { 0 } else { RETENTION };
                Vec::new()
            }
            "restart" => {
                self.replica = start(&self.disk);
                Vec::new()
            }
            "counted" => self.replica.counted(),
            "damaged" => self.replica.damaged(),
            "wait" => {
                self.now += Duration::from_millis(first.parse()?);
                self.replica.tick(self.now)
            }
            "page" => self.page(command)?,
            "snapshot" => self.snapshot(command)?,
            "readable" => {
                let epoch = Epoch(first.parse()?);
                return Ok(match may_be_read(self.replica.standing().promise, epoch) {
                    Ok(()) => "yes\n".to_owned(),
                    Err(promise) => format!("no: e{promise} is promised\n"),
                });
            }
            _ => {
                let message = self.message(command)?;
                self.replica.handle(self.now, message)
            }
        };
        Ok(self.carry_out(effects))
    }
}

fn start(disk: &Disk) -> Replica {
    Replica::new("b".into(), disk.standing(), disk.appended_epoch, disk.tail())
}

/// Members `a` with store 1 and `b`, which is the replica itself, with store 2.
fn view(epoch: Epoch, args: &mut ArgumentConsumer<'_>) -> View {
    let members = args.take_key("members").unwrap_or("a b");
    let member = |node: &str| Member { node: node.into(), store: StoreId(if node == "b" { 2 } else { 1 }) };
    let members = members.split_whitespace().map(member).collect();
    View { shard: ShardId(0), epoch, writer: "f".into(), members, last_index: Index(0) }
}

fn number(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<Option<u64>, Failure> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}
