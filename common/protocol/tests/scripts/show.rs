//! Messages, views and effects as short lines of text.

use protocol::command::Outcome;
use protocol::entry::Entry;
use protocol::message::{Appended, Refused, Reply, Sealed, Standing, ToReplica, Touched};
use protocol::replica::{self, Done, Step};
use protocol::view::View;
use protocol::writer::{Effect, Happening};

pub(crate) fn view(view: &View) -> String {
    let members: Vec<String> =
        view.members.iter().map(|member| format!("{}/{}", member.node, member.store.0)).collect();
    format!("e{} of {} {{{}}} last {}", view.epoch, view.writer, members.join(" "), view.last_index)
}

fn entries(entries: &[Entry]) -> String {
    let list: Vec<String> = entries.iter().map(|entry| format!("{}@e{}", entry.index, entry.epoch)).collect();
    format!("[{}]", list.join(" "))
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Changed(book) => format!("changed at {}", book.version),
        other => format!("{other:?}"),
    }
}

fn touched(touched: &Touched) -> String {
    match touched {
        Touched::Keys(keys) => format!("{keys:?}"),
        Touched::Everything => "everything".to_owned(),
    }
}

pub(crate) fn message(message: &ToReplica) -> String {
    match message {
        ToReplica::Append(a) => {
            format!("append e{} after {} commit {} {}", a.epoch, a.before, a.commit, entries(&a.entries))
        }
        ToReplica::Seal(sealed) => format!("seal {}", view(sealed)),
        ToReplica::Recover(r) => {
            let afresh = if r.afresh { " afresh" } else { "" };
            format!("recover from {} commit {}{afresh}, view {}", r.source, r.commit, view(&r.view))
        }
        ToReplica::Fetch { epoch, after, upto } => format!("fetch e{epoch} after {after} upto {upto}"),
        ToReplica::Recount { epoch } => format!("recount e{epoch}"),
        ToReplica::Report => "report".to_owned(),
    }
}

pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Standing(Standing { store, promise, last, commit, view: told, .. }) => {
            let told = told.as_ref().map_or_else(|| "none".to_owned(), view);
            format!("standing store {} promise e{promise} last {last} commit {commit} view {told}", store.0)
        }
        Reply::Appended(Appended { epoch, last, outcomes, touched: keys, .. }) => {
            let outcomes: Vec<String> = outcomes.iter().map(outcome).collect();
            format!("appended e{epoch} last {last} [{}] touched {}", outcomes.join(", "), touched(keys))
        }
        Reply::Sealed(Sealed { epoch, last, commit, .. }) => {
            format!("sealed e{epoch} last {last} commit {commit}")
        }
        Reply::Refused(Refused::SealedBy { epoch, promise }) => {
            format!("refused e{epoch}: sealed by e{promise}")
        }
        Reply::Refused(Refused::Gap { epoch, have }) => format!("refused e{epoch}: gap, have {have}"),
        Reply::Refused(Refused::Conflict { epoch, at }) => format!("refused e{epoch}: conflict at {at}"),
        Reply::Join { epoch, last, .. } => format!("join e{epoch} last {last}"),
        Reply::Fetched { epoch, entries: list } => format!("fetched e{epoch} {}", entries(list)),
        Reply::Recounted { epoch, sound } => format!("recounted e{epoch} sound {sound}"),
        Reply::Failed { epoch, problem } => format!("failed e{epoch}: {problem}"),
    }
}

fn happening(happening: &Happening) -> String {
    match happening {
        Happening::ViewChanged { view: new } => format!("view changed to {}", view(new)),
        Happening::TookOffice { epoch, commit, .. } => format!("took office e{epoch} commit {commit}"),
        Happening::SteppedDown { why, .. } => format!("stepped down: {why}"),
        Happening::Suspected { node, why, .. } => format!("suspected {node}: {why:?}"),
        Happening::ResyncStarted { node, source, .. } => format!("resync of {node} from {source}"),
        Happening::Joining { node, .. } => format!("joining {node}"),
        Happening::ResyncDone { node, epoch, .. } => format!("resync of {node} done, e{epoch}"),
        Happening::MembersDiffer { index, .. } => format!("members differ at {index}"),
        Happening::ReplicaFailed { node, problem, .. } => format!("{node} failed: {problem}"),
        Happening::Halted { problem, .. } => format!("halted: {problem}"),
    }
}

pub(crate) fn writer_effect(effect: &Effect<String>) -> String {
    match effect {
        Effect::Send { to, message: sent } => format!("{to} <- {}", message(sent)),
        Effect::Tell { to, message: sent } => format!("{to} <~ {}", message(sent)),
        Effect::ReadView => "read the view".to_owned(),
        Effect::Swap { expected, view: new } => format!("swap e{expected} for {}", view(new)),
        Effect::Invalidate { upto, touched: keys } => format!("invalidate upto {upto}: {}", touched(keys)),
        Effect::Read { view: Some(by), fresh } => {
            format!("read by {}{}", view(by), if *fresh { ", fresh" } else { "" })
        }
        Effect::Read { view: None, .. } => "read by no view".to_owned(),
        Effect::StopReading(node) => format!("stop reading from {node}"),
        Effect::Commit(committed) => format!("commit {} after {}", committed.index, committed.after),
        Effect::Complete { ticket, result: Ok(done) } => format!("{ticket}: {}", outcome(done)),
        Effect::Complete { ticket, result: Err(failure) } => format!("{ticket}: {failure}"),
        Effect::Happening(what) => format!("* {}", happening(what)),
    }
}

pub(crate) fn replica_effect(effect: &replica::Effect) -> String {
    match effect {
        replica::Effect::Persist(Step::Promise { epoch, view: told }) => {
            format!(
                "persist promise e{epoch}, view {}",
                told.as_ref().map_or_else(|| "as before".to_owned(), view)
            )
        }
        replica::Effect::Persist(Step::Append(c)) => {
            format!("persist append {} promise e{} commit {}", entries(&c.entries), c.promise, c.commit)
        }
        replica::Effect::Persist(Step::Outcomes { first, last }) => {
            format!("read outcomes {first} to {last}")
        }
        replica::Effect::Persist(Step::Fetch { after, upto }) => {
            format!("read entries after {after} upto {upto}")
        }
        replica::Effect::Persist(Step::Undo { to }) => format!("persist undo to {to}"),
        replica::Effect::Send(said) => format!("say {}", reply(&said.reply)),
        replica::Effect::Pull { source, after } => format!("pull from {source} after {after}"),
        replica::Effect::FetchSnapshot { source, at_least } => {
            format!("fetch a snapshot from {source} of at least {at_least}")
        }
        replica::Effect::Recount { epoch } => format!("recount e{epoch}"),
        replica::Effect::Note(note) => format!("* {note:?}"),
    }
}

pub(crate) fn done(done: &Done) -> &'static str {
    match done {
        Done::Promised | Done::Appended { .. } | Done::Undone { .. } => "durable",
        Done::Outcomes(_) | Done::Fetched(_) => "read",
        Done::UndoGone => "what is needed to undo is gone",
    }
}
