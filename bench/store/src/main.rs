//! How fast the store of a catalog node alone takes buys: one file, one thread, a transaction and a sync for each
//! batch, a checkpoint now and then as a node has it. No network, no protocol, no second replica.
//!
//! It tells what a buy costs, in time of the processor and in pages of the write-ahead log. Under
//! `valgrind --tool=callgrind --toggle-collect='*Store*append*'` it tells which instructions.

#![expect(clippy::print_stdout, reason = "what it finds goes to the terminal")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use catalog::store::{Readers, Store};
use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use protocol::catalogue::{Facts, NewBook, OrderLine};
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BookId, Chain, Epoch, Index, OrderId, ShardId, Timestamp};
use protocol::replica::Change;
use uuid::Uuid;

/// As in the node.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Buys between two checkpoints: about what a busy node takes in a second.
const CHECKPOINT_BUYS: usize = 8_192;
/// Enough of each book for any number of buys.
const COPIES: u64 = 1_000_000_000;

/// Measures the store of a catalog node alone.
#[derive(Parser)]
struct Args {
    /// Buys in each batch.
    #[arg(long, default_value_t = 40)]
    batch: usize,
    /// Buys that are measured.
    #[arg(long, default_value_t = 200_000)]
    buys: usize,
    /// Buys before those, which are not.
    #[arg(long, default_value_t = 50_000)]
    before: usize,
    /// What the keys of the commands look like.
    #[arg(long, value_enum, default_value_t = Keys::Ordered)]
    keys: Keys,
    /// Books in the store.
    #[arg(long, default_value_t = 1000)]
    books: u64,
    /// Entries that the log keeps.
    #[arg(long, default_value_t = 20_000)]
    keep_entries: u64,
    /// Where the file is made; it is removed at the end. A temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keys {
    /// One after the other by the time of their making.
    Ordered,
    /// In no order.
    Random,
}

/// Makes entries as a writer does.
struct Source {
    keys: Keys,
    books: u64,
    last: (Index, Chain),
    random: u64,
}

impl Source {
    fn entry(&mut self, key: &str, action: Action) -> Entry {
        let at = Timestamp(1_700_000_000_000 + self.last.0.0);
        let command = Command { key: CommandKey::new(Scope::Public, key.as_bytes()), at, action };
        let entry = Entry::after(self.last.1, self.last.0.next(), Epoch(1), EncodedCommand::of(&command));
        self.last = (entry.index, entry.chain);
        entry
    }

    fn load(&mut self, from: u64, to: u64) -> Entry {
        let books = (from..=to).filter_map(|id| BookId::try_from(id).ok()).map(book).collect();
        self.entry(&format!("load-{from}"), Action::Load { books })
    }

    fn buy(&mut self) -> Entry {
        let key = match self.keys {
            Keys::Ordered => Uuid::now_v7(),
            Keys::Random => Uuid::new_v4(),
        };
        let book = BookId::try_from(1 + self.below(self.books)).ok();
        let lines = book.map(|book| OrderLine { book, quantity: 1 }).into_iter().collect();
        let order = OrderId(Uuid::now_v7().as_u128());
        self.entry(&key.hyphenated().to_string(), Action::Buy { order, lines })
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}

fn book(id: BookId) -> NewBook {
    let facts = Facts {
        title: format!("The Wandering Orchard of Book Number {id}"),
        topic: format!("topic {}", id.get() % 20),
        author: Some("Marguerite Featherstone".to_owned()),
        isbn: Some("978-3-16-148410-0".to_owned()),
        year: Some(2007),
        description: Some("A plan for those who start early, and for all others. ".repeat(5)),
    };
    NewBook { id: Some(id), facts, cost_cents: 1999, quantity: COPIES }
}

/// What a measurement adds up.
#[derive(Default)]
struct Sums {
    batches: usize,
    elapsed: Duration,
    cpu: Duration,
    checkpoint_cpu: Duration,
    pages: u64,
}

struct Bench {
    store: Store,
    readers: Readers,
    source: Source,
}

impl Bench {
    fn append(&mut self, entries: Vec<Entry>) -> Result<Vec<Outcome>, Box<dyn Error>> {
        // What the writer tells of its commits is one batch behind.
        let commit = self.store.standing().last;
        let change = Change { promise: Epoch(1), appended_epoch: Epoch(1), commit, entries };
        Ok(self.store.append(&change)?.outcomes)
    }

    fn buys(&mut self, buys: usize, batch: usize) -> Result<Sums, Box<dyn Error>> {
        let mut sums = Sums::default();
        let mut left = buys;
        while left > 0 {
            // Made beforehand, so that the making is not measured.
            let round = left.min(CHECKPOINT_BUYS);
            let entries: Vec<Entry> = (0..round).map(|_| self.source.buy()).collect();
            let batches: Vec<Vec<Entry>> = entries.chunks(batch).map(<[Entry]>::to_vec).collect();
            sums.batches += batches.len();
            let (begin, cpu) = (Instant::now(), cpu_time()?);
            for entries in batches {
                let outcomes = self.append(entries)?;
                if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Sold(_))) {
                    return Err("a buy was not carried out".into());
                }
            }
            let before_checkpoint = cpu_time()?;
            sums.pages += self.readers.checkpoint()?.pages;
            sums.elapsed += begin.elapsed();
            sums.cpu += before_checkpoint.saturating_sub(cpu);
            sums.checkpoint_cpu += cpu_time()?.saturating_sub(before_checkpoint);
            left -= round;
        }
        Ok(sums)
    }
}

/// How long this thread has been on a processor.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split_whitespace().next().unwrap_or_default().parse()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let directory = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let (store, readers) = Store::open(directory.path(), ShardId(0), 1, args.keep_entries)?;
    let last = (Index(0), Chain::default());
    let source = Source { keys: args.keys, books: args.books, last, random: 0x9e37_79b9_7f4a_7c15 };
    let mut bench = Bench { store, readers, source };
    for from in (1..=args.books).step_by(1000) {
        let entry = bench.source.load(from, args.books.min(from + 999));
        bench.append(vec![entry])?;
    }
    let batch = args.batch.max(1);
    bench.buys(args.before, batch)?;
    let Sums { batches, elapsed, cpu, checkpoint_cpu, pages } = bench.buys(args.buys, batch)?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / args.buys as f64;
    println!(
        "batches of {batch}, keys {:?}, {} books: {:.0} buys/s; of the processor {:.2} us a buy and {:.2} us for \
         checkpoints; {:.1} pages a batch",
        args.keys,
        args.books,
        args.buys as f64 / elapsed.as_secs_f64(),
        each(cpu),
        each(checkpoint_cpu),
        pages as f64 / batches as f64,
    );
    Ok(())
}
