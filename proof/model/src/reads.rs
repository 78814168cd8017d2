//! Reads and the cache in the model: as the front end has them, around the real table of flights.

use protocol::fill::{Begin, FlightId, Verdict};
use protocol::ids::Epoch;
use protocol::message::{CacheKey, Touched};
use protocol::release::{Release, release};
use protocol::replica::may_be_read;
use protocol::view::View;

use crate::disk::book;
use crate::node::NAMES;
use crate::state::{Event, Reading, Run, Shown, Stage, State};

impl State {
    fn reader(&mut self, front: usize) -> &mut Run {
        self.front_mut(front).run.as_mut().expect("only a process that runs reads")
    }

    /// The writer says what reads go by.
    pub(crate) fn read_by(&mut self, front: usize, view: Option<View>, fresh: bool) {
        let run = self.reader(front);
        run.view = view;
        run.unread.clear();
        run.fills.void_all();
        if fresh {
            run.cached = None;
        }
    }

    /// A write's keys leave the cache, and void the fills of them.
    pub(crate) fn drop_touched(&mut self, front: usize, touched: &Touched) {
        let run = self.reader(front);
        run.fills.invalidate(touched);
        let dropped = match touched {
            Touched::Keys(keys) => keys.contains(&CacheKey::Book(book())),
            Touched::Everything => true,
        };
        if dropped {
            run.cached = None;
        }
    }

    /// A miss: it leads a flight of its own, or joins one.
    pub(crate) fn miss(&mut self, front: usize) {
        let floor = self.ghost.told;
        let run = self.reader(front);
        match run.fills.begin(&CacheKey::Book(book()), 0) {
            Begin::Lead(token) => {
                let reading = Reading { floors: vec![floor], stage: Stage::Wanted, refused: false, token };
                run.reads.insert(reading.token.flight(), reading);
            }
            Begin::Join(flight) => {
                if let Some(reading) = run.reads.get_mut(&flight) {
                    reading.floors.push(floor);
                }
                self.happened.insert(Event::FlightShared);
            }
        }
    }

    /// A member is asked, by the view.
    pub(crate) fn ask(&mut self, front: usize, flight: FlightId, node: usize) {
        let id = self.nodes[node].id.clone();
        let run = self.reader(front);
        let Some(view) = &run.view else { return };
        let Some(store) = view.member(&id).map(|member| member.store) else { return };
        let epoch = view.epoch;
        if let Some(reading) = run.reads.get_mut(&flight) {
            reading.stage = Stage::Asked { node, store, epoch };
        }
    }

    /// The member opens its snapshot, if it may be read.
    pub(crate) fn read(&mut self, front: usize, flight: FlightId) {
        let reading = self.reader(front).reads.get(&flight);
        let Some(Stage::Asked { node, store, epoch }) = reading.map(|reading| reading.stage.clone()) else {
            return;
        };
        let asked = &self.nodes[node];
        let here = asked.process.as_ref().filter(|_| asked.disk.store == store);
        let promise = here.map(|process| process.replica.standing().promise);
        let allowed = promise.map(|promise| may_be_read(promise, epoch));
        let refused = matches!(allowed, Some(Err(_)));
        let stage = match allowed.filter(Result::is_ok) {
            Some(_) => Stage::Held { epoch, shown: asked.disk.tables.read() },
            None => Stage::Wanted,
        };
        if refused {
            self.happened.insert(Event::ReadRefused);
        }
        self.note(|| format!("{}: {stage:?}", NAMES[node]));
        let run = self.reader(front);
        let is_early = matches!(&stage, Stage::Held { shown, .. } if shown.version.index > run.commit);
        if let Some(reading) = run.reads.get_mut(&flight) {
            reading.refused |= refused;
            reading.stage = stage;
        }
        if is_early {
            self.happened.insert(Event::ReadHeldBack);
        }
    }

    /// R1: what is to be done with an answer.
    pub(crate) fn verdict(run: &Run, shown: Shown, asked_in: Epoch) -> Release {
        release(shown.version, asked_in, run.view.as_ref().map(|view| view.epoch), run.commit)
    }

    /// A front end looks at an answer that it holds: it is shown, or the book is asked for again.
    pub(crate) fn release(&mut self, front: usize, flight: FlightId) {
        let run = self.reader(front);
        let Some(Stage::Held { epoch, shown }) = run.reads.get(&flight).map(|read| read.stage.clone()) else {
            return;
        };
        match Self::verdict(run, shown, epoch) {
            Release::Hold => {}
            Release::AskAgain => {
                if let Some(reading) = run.reads.get_mut(&flight) {
                    reading.stage = Stage::Wanted;
                }
            }
            Release::Show => {
                let Some(Reading { token, floors, .. }) = run.reads.remove(&flight) else { return };
                match run.fills.finish(token) {
                    Verdict::Store => {
                        run.cached = Some(shown);
                        self.happened.insert(Event::Filled);
                    }
                    Verdict::Void => self.happened.insert(Event::VoidFill),
                }
                self.judge_read(shown, &floors);
            }
        }
    }
}
