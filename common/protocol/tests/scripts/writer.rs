//! The writer under a script: the script plays the replicas, the view store, the callers and the clock.
//!
//! `new a b …` makes it. Replicas speak by `standing`, `sealed`, `appended`, `gap`, `conflict`,
//! `sealed_by`, `join`, `fetched`, `recounted`, `failed`; each has store 1, 2, … in the order of `new`
//! unless `store=` says otherwise, and the epoch is the writer's unless `epoch=` does.

use std::error::Error;
use std::time::{Duration, Instant};

use goldenscript::{ArgumentConsumer, Command, Context};
use protocol::command::Outcome;
use protocol::ids::{BookId, Chain, Digest, Epoch, Index, NodeId, ShardId, StoreId};
use protocol::message::{Appended, CacheKey, Refused, Reply, Said, Sealed, Standing, ToReplica, Touched};
use protocol::view::{Member, View};
use protocol::writer::{Effect, Options, SwapResult, Writer};

use crate::logs::{Logs, set_price};
use crate::show;

type Failure = Box<dyn Error>;

pub(crate) struct Runner {
    start: Instant,
    now: Instant,
    nodes: Vec<String>,
    writer: Writer<String>,
    logs: Logs,
}

impl Runner {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { start: now, now, nodes: Vec::new(), writer: writer(&[], now), logs: Logs::new() }
    }

    fn store(&self, node: &str) -> StoreId {
        let place = self.nodes.iter().position(|other| other == node).map_or(99, |place| place + 1);
        StoreId(place as u128)
    }

    fn view(&self, args: &mut ArgumentConsumer<'_>) -> Result<Option<View>, Failure> {
        let Some(members) = args.take_key("members") else { return Ok(None) };
        let members = members
            .split_whitespace()
            .map(|node| Member { node: node.into(), store: self.store(node) })
            .collect();
        let epoch = Epoch(number(args, "view_epoch")?.unwrap_or(1));
        let last_index = Index(number(args, "last_index")?.unwrap_or(0));
        Ok(Some(View { shard: ShardId(0), epoch, writer: "f".into(), members, last_index }))
    }

    /// What a replica says.
    fn reply(&self, command: &Command, args: &mut ArgumentConsumer<'_>) -> Result<Reply, Failure> {
        let current = self.writer.view().map_or(Epoch(0), |view| view.epoch);
        let epoch = number(args, "epoch")?.map_or(current, Epoch);
        let log = args.take_key("log").unwrap_or("main").to_owned();
        let last = number(args, "last")?.unwrap_or_else(|| self.logs.last(&log).0);
        let digest = Digest(number(args, "digest")?.unwrap_or(last).into());
        let chain = self.logs.chain(&log, last).unwrap_or(Chain(u128::from(last) << 64));
        let commit = Index(number(args, "commit")?.unwrap_or(0));
        let last = Index(last);
        Ok(match command.name.as_str() {
            "standing" => {
                let promise = number(args, "promise")?.map_or(epoch, Epoch);
                let view = self.view(args)?;
                Reply::Standing(Standing { store: StoreId(0), promise, last, chain, digest, commit, view })
            }
            "sealed" => Reply::Sealed(Sealed { epoch, last, chain, commit }),
            "appended" => {
                let first = number(args, "first")?.unwrap_or(last.0);
                let other = number(args, "other_by")?.unwrap_or(0);
                let outcomes = (first..=last.0).map(|index| outcome(index + other)).collect();
                let again = args.take_key("again").is_some();
                let key = CacheKey::Book(BookId::try_from(1)?);
                let touched = if again { Touched::Everything } else { Touched::Keys(vec![key]) };
                Reply::Appended(Appended { epoch, last, chain, digest, outcomes, touched })
            }
            "alive" => {
                let (outcomes, touched) = (Vec::new(), Touched::Keys(Vec::new()));
                Reply::Appended(Appended { epoch, last, chain, digest, outcomes, touched })
            }
            "gap" => Reply::Refused(Refused::Gap { epoch, have: last }),
            "conflict" => Reply::Refused(Refused::Conflict { epoch, at: last }),
            "sealed_by" => {
                let promise = Epoch(number(args, "promise")?.ok_or("promise is missing")?);
                Reply::Refused(Refused::SealedBy { epoch, promise })
            }
            "join" => Reply::Join { epoch, last, chain },
            "fetched" => {
                let after = number(args, "after")?.unwrap_or(0);
                Reply::Fetched { epoch, entries: self.logs.between(&log, after, last.0)? }
            }
            "recounted" => Reply::Recounted { epoch, sound: args.take_key("sound") == Some("true") },
            "failed" => Reply::Failed { epoch, problem: "no space left".to_owned() },
            other => return Err(format!("unknown command {other}").into()),
        })
    }

    fn say(&mut self, command: &Command) -> Result<Vec<Effect<String>>, Failure> {
        let mut args = command.consume_args();
        let node = args.next_pos().ok_or("who says it?")?.to_owned();
        let store = number(&mut args, "store")?.map_or_else(|| self.store(&node), |id| StoreId(id.into()));
        let mut reply = self.reply(command, &mut args)?;
        if let Reply::Standing(standing) = &mut reply {
            standing.store = store;
        }
        args.reject_next()?;
        Ok(self.writer.handle_said(self.now, &node.as_str().into(), Said { store, reply }))
    }

    /// Lets time pass, with a tick wherever the writer wants one.
    fn wait(&mut self, until: Instant) -> Result<Vec<Effect<String>>, Failure> {
        let mut effects = Vec::new();
        for _ in 0..100 {
            match self.writer.deadline().filter(|deadline| *deadline <= until) {
                Some(deadline) => self.now = deadline.max(self.now),
                None => {
                    self.now = until;
                    return Ok(effects);
                }
            }
            effects.extend(self.writer.tick(self.now));
        }
        Err("the deadline stays in the past".into())
    }

    fn store_says(&mut self, command: &Command) -> Result<Vec<Effect<String>>, Failure> {
        let mut args = command.consume_args();
        let what = args.next_pos().unwrap_or("").to_owned();
        let view = self.view(&mut args)?;
        args.reject_next()?;
        let now = self.now;
        Ok(match what.as_str() {
            "swapped" => self.writer.swapped(now, SwapResult::Swapped),
            "lost" => self.writer.swapped(now, SwapResult::Lost),
            "unknown" => self.writer.swapped(now, SwapResult::Unknown),
            "unreadable" => self.writer.view_read(now, Err("the view store can't be read".to_owned())),
            _ => self.writer.view_read(now, Ok(view)),
        })
    }

    /// The way into office of a new shard, without its trace.
    fn lead(&mut self) -> Vec<Effect<String>> {
        let now = self.now;
        let mut effects = self.writer.tick(now);
        let members: Vec<Member> = self
            .nodes
            .iter()
            .map(|node| Member { node: node.as_str().into(), store: self.store(node) })
            .collect();
        for member in &members {
            effects.extend(self.writer.handle_connected(&member.node));
        }
        let view =
            View { shard: ShardId(0), epoch: Epoch(1), writer: "f".into(), members, last_index: Index(0) };
        effects.extend(self.writer.view_read(now, Ok(Some(view.clone()))));
        effects.extend(self.writer.swapped(now, SwapResult::Swapped));
        for member in &view.members {
            let sealed =
                Sealed { epoch: Epoch(2), last: Index(0), chain: Chain::default(), commit: Index(0) };
            let said = Said { store: member.store, reply: Reply::Sealed(sealed) };
            effects.extend(self.writer.handle_said(now, &member.node, said));
        }
        effects
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let now = self.now;
        let mut args = command.consume_args();
        let names: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        let first = names.first().copied().unwrap_or("");
        let effects = match command.name.as_str() {
            "new" => {
                self.nodes = names.iter().map(|name| (*name).to_owned()).collect();
                self.writer = writer(&names, now);
                Vec::new()
            }
            "lead" => self.lead(),
            "tick" => self.writer.tick(now),
            "wait" => self.wait(now + Duration::from_millis(first.parse()?))?,
            "store" => self.store_says(command)?,
            "connected" => self.writer.handle_connected(&first.into()),
            "lost" => self.writer.handle_lost(now, &first.into()),
            "silent" => self.writer.handle_silent(now, &first.into()),
            "submit" => {
                let writes = names.iter().map(|name| ((*name).to_owned(), set_price(name)));
                self.writer.submit_all(now, writes)
            }
            "invalidated" => self.writer.invalidated(now, Index(first.parse()?)),
            "extend" | "branch" => return self.logs.command(command),
            _ => self.say(command)?,
        };
        // Time passes between any two events, if only a little.
        self.now += Duration::from_millis(1);
        let mut output = String::new();
        for effect in &effects {
            if let Effect::Send { message: ToReplica::Append(append), .. } = effect {
                self.logs.learn(&append.entries);
            }
            output.push_str(&show::writer_effect(effect));
            output.push('\n');
        }
        Ok(output)
    }

    fn end_block(&mut self, _: &goldenscript::Block) -> Result<String, Failure> {
        let deadline = self.writer.deadline().map(|at| (at - self.start).as_millis());
        let waits = self.writer.waits_for().unwrap_or_else(|| "nothing, it leads".to_owned());
        let at = (self.now - self.start).as_millis();
        let next = deadline.map_or_else(String::new, |at| format!(", next tick at {at} ms"));
        Ok(format!("= {at} ms, commit {}{next}, waits for {waits}\n", self.writer.commit_index()))
    }
}

fn writer(nodes: &[&str], now: Instant) -> Writer<String> {
    let options = Options { write_timeout: Duration::from_secs(1), patience: Duration::from_secs(3) };
    let nodes: Vec<NodeId> = nodes.iter().map(|node| (*node).into()).collect();
    Writer::new(ShardId(0), "f".into(), nodes, options, now)
}

fn number(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<Option<u64>, Failure> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

fn outcome(index: u64) -> Outcome {
    Outcome::Loaded { books: u32::try_from(index).unwrap_or(u32::MAX) }
}
