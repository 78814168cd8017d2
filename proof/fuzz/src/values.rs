//! Values of the protocol, as property tests and fuzzers begin with.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use protocol::catalogue::{
    AUTHOR_BYTES_MAX, Book, COST_CENTS_MAX, DESCRIPTION_BYTES_MAX, Facts, ISBN_BYTES_MAX, LINE_QUANTITY_MAX,
    NewBook, Order, OrderLine, STOCK_MAX, SoldItem, TITLE_BYTES_MAX, TOPIC_BYTES_MAX, TopicKey,
};
use protocol::command::{Action, Command, CommandKey, Outcome, Refusal, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BOOK_ID_MAX, BookId, Chain, Epoch, Index, NodeId, OrderId, ShardId, StoreId, Timestamp};
use protocol::view::{Member, View};

/// A book id. Small ones come often, so that commands meet at the same books.
pub fn book_id() -> impl Strategy<Value = BookId> {
    let number = prop_oneof![4 => 1..=8_u64, 1 => 1..=BOOK_ID_MAX];
    number.prop_map(|id| BookId::try_from(id).expect("it is within the limits of an id"))
}

/// Visible text of at least a letter, without spaces around it.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z]{1,8}( [A-Za-z]{1,8}){0,3}", 1 => "[\\p{L}\\p{N}]([\\p{L}\\p{N} ,\"'%-]{0,12}[\\p{L}\\p{N}])?"]
}

/// A text that may begin and end with white space.
fn padded() -> impl Strategy<Value = String> {
    ("[ \t\n]{0,2}", text(), "[ \t\n]{0,2}")
        .prop_map(|(before, text, after)| format!("{before}{text}{after}"))
}

fn facts() -> impl Strategy<Value = Facts> {
    (padded(), text(), of(padded()), of("[0-9X-]{1,13}"), of(any::<i32>()), of(padded())).prop_map(
        |(title, topic, author, isbn, year, description)| Facts {
            title,
            topic,
            author,
            isbn,
            year,
            description,
        },
    )
}

/// A book to add, within all limits.
pub fn new_book() -> impl Strategy<Value = NewBook> {
    (of(book_id()), facts(), 0..=COST_CENTS_MAX, 0..=STOCK_MAX)
        .prop_map(|(id, facts, cost_cents, quantity)| NewBook { id, facts, cost_cents, quantity })
}

fn book() -> impl Strategy<Value = Book> {
    (book_id(), facts(), 0..=COST_CENTS_MAX, 0..=STOCK_MAX, any::<u64>()).prop_map(
        |(id, facts, cost_cents, quantity, version)| Book {
            id,
            facts,
            cost_cents,
            quantity,
            version: Index(version),
        },
    )
}

/// Panics unless a book that a parser let through is within the limits that the store relies on.
pub fn assert_within_limits(book: &NewBook) {
    let Facts { title, topic, author, isbn, year: _, description } = &book.facts;
    let is_fit = |text: &String, most: usize| !text.is_empty() && text.len() <= most;
    assert!(is_fit(title, TITLE_BYTES_MAX), "{title:?}");
    assert!(is_fit(topic, TOPIC_BYTES_MAX) && !TopicKey::of(topic).as_str().is_empty(), "{topic:?}");
    assert!(author.iter().all(|author| is_fit(author, AUTHOR_BYTES_MAX)), "{author:?}");
    assert!(isbn.iter().all(|isbn| is_fit(isbn, ISBN_BYTES_MAX)), "{isbn:?}");
    assert!(description.iter().all(|text| is_fit(text, DESCRIPTION_BYTES_MAX)), "{description:?}");
    assert!(book.cost_cents <= COST_CENTS_MAX && book.quantity <= STOCK_MAX, "{book:?}");
}

/// Lines of a buy.
pub fn lines() -> impl Strategy<Value = Vec<OrderLine>> {
    vec((book_id(), 1..=LINE_QUANTITY_MAX), 1..4).prop_map(|lines| {
        let mut asked: Vec<OrderLine> = Vec::new();
        for (book, quantity) in lines {
            if asked.iter().all(|line| line.book != book) {
                asked.push(OrderLine { book, quantity });
            }
        }
        asked
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u128>(), lines()).prop_map(|(order, lines)| Action::Buy { order: OrderId(order), lines }),
        (book_id(), -1_000_000_000..=1_000_000_000_i64)
            .prop_map(|(book, amount)| Action::AddStock { book, amount }),
        (book_id(), 0..=COST_CENTS_MAX).prop_map(|(book, cost_cents)| Action::SetPrice { book, cost_cents }),
        new_book().prop_map(|book| Action::PutBook(Box::new(book))),
        book_id().prop_map(|book| Action::RemoveBook { book }),
        vec(new_book(), 0..4).prop_map(|books| Action::Load { books }),
    ]
}

/// A key, one of a few so that they are used again.
pub fn key() -> impl Strategy<Value = CommandKey> {
    let scope = prop_oneof![Just(Scope::Public), Just(Scope::Admin), Just(Scope::Store)];
    (scope, "[a-c]{1,2}").prop_map(|(scope, key)| CommandKey::new(scope, key.as_bytes()))
}

/// A write.
pub fn command() -> impl Strategy<Value = Command> {
    (key(), any::<u32>(), action()).prop_map(|(key, at, action)| Command {
        key,
        at: Timestamp(1_700_000_000_000 + u64::from(at)),
        action,
    })
}

/// Entries that follow one another.
pub fn entries() -> impl Strategy<Value = Vec<Entry>> {
    vec(command(), 0..4).prop_map(|commands| {
        let encoded: Vec<EncodedCommand> = commands.iter().map(EncodedCommand::of).collect();
        chained(&encoded)
    })
}

/// A log of these commands.
#[must_use]
pub fn chained(commands: &[EncodedCommand]) -> Vec<Entry> {
    let mut chain = Chain::default();
    let follow = |(command, index): (&EncodedCommand, u64)| {
        let entry = Entry::after(chain, Index(index), Epoch(1), command.clone());
        chain = entry.chain;
        entry
    };
    commands.iter().zip(1..).map(follow).collect()
}

fn order() -> impl Strategy<Value = Order> {
    let item = (book_id(), text(), 1..=LINE_QUANTITY_MAX, 0..=COST_CENTS_MAX).prop_map(
        |(book, title, quantity, unit_cost_cents)| SoldItem { book, title, quantity, unit_cost_cents },
    );
    (any::<u128>(), vec(item, 0..3), any::<u64>()).prop_map(|(id, items, at)| Order {
        id: OrderId(id),
        items,
        at: Timestamp(at),
    })
}

/// What became of a command.
pub fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        order().prop_map(Outcome::Sold),
        book().prop_map(Outcome::Changed),
        book().prop_map(Outcome::Added),
        Just(Outcome::Removed),
        any::<u32>().prop_map(|books| Outcome::Loaded { books }),
        book_id().prop_map(|book| Outcome::Refused(Refusal::NoSuchBook { book })),
        Just(Outcome::Refused(Refusal::KeyConflict)),
    ]
}

/// The name of a node.
pub fn node() -> impl Strategy<Value = NodeId> {
    "(catalog|order|frontend)-[1-3]".prop_map(NodeId::from)
}

/// A view of a shard.
pub fn view(shard: ShardId) -> impl Strategy<Value = View> {
    let member = (node(), any::<u128>()).prop_map(|(node, store)| Member { node, store: StoreId(store) });
    (1..1_000_000_u64, node(), vec(member, 1..4), any::<u32>()).prop_map(
        move |(epoch, writer, members, last)| View {
            shard,
            epoch: Epoch(epoch),
            writer,
            members,
            last_index: Index(u64::from(last)),
        },
    )
}
