//! The bookstore as it should be: what each committed command does, worked out apart from the store.
//!
//! It keeps every state of every book, so that what was shown can be compared with any moment.

use std::collections::BTreeMap;

use catalog::store::Readers;
use protocol::call::{Content, PageQuery, Query};
use protocol::catalogue::{Book, NewBook, Order, OrderLine, SoldItem, TopicKey};
use protocol::command::{Action, Command, CommandKey, Fingerprint, Outcome, Refusal};
use protocol::ids::{BookId, Index, OrderId, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Model {
    last: Index,
    /// The states of each book, oldest first, each with the entry that made it.
    books: BTreeMap<BookId, Vec<(Index, Option<Book>)>>,
    /// What became of each command first, and where.
    outcomes: BTreeMap<CommandKey, (Fingerprint, Index, Outcome)>,
    sales: BTreeMap<OrderId, (Index, Order)>,
    /// Copies that came and went other than by being sold.
    moved: BTreeMap<BookId, i128>,
}

impl Model {
    /// The last entry that is committed.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    pub(crate) fn knows(&self, key: &CommandKey) -> bool {
        self.outcomes.contains_key(key)
    }

    pub(crate) fn sale(&self, order: OrderId) -> Option<&(Index, Order)> {
        self.sales.get(&order)
    }

    pub(crate) fn sales(&self) -> impl Iterator<Item = &Order> {
        self.sales.values().map(|(_, order)| order)
    }

    /// All states of a book.
    pub(crate) fn states(&self, id: BookId) -> &[(Index, Option<Book>)] {
        self.books.get(&id).map_or(&[], Vec::as_slice)
    }

    /// A book as of an entry.
    pub(crate) fn book_at(&self, id: BookId, index: Index) -> Option<&Book> {
        let states = self.states(id);
        let known = states.partition_point(|(made, _)| *made <= index);
        states.get(known.checked_sub(1)?)?.1.as_ref()
    }

    fn book(&self, id: BookId) -> Option<&Book> {
        self.book_at(id, self.last)
    }

    /// All books as of an entry, by id.
    pub(crate) fn books_at(&self, index: Index) -> impl Iterator<Item = &Book> {
        self.books.keys().filter_map(move |id| self.book_at(*id, index))
    }

    /// What a page shows as of an entry, and whether more follow.
    pub(crate) fn page_at(&self, page: &PageQuery, index: Index) -> (Vec<&Book>, bool) {
        let behind = |book: &&Book| page.after.is_none_or(|after| book.id > after);
        let of_topic =
            |book: &&Book| page.topic.as_ref().is_none_or(|topic| TopicKey::of(&book.facts.topic) == *topic);
        let has_words = |book: &&Book| page.words.as_ref().is_none_or(|words| has_words(book, words));
        let fits = |book: &&Book| behind(book) && of_topic(book) && has_words(book);
        let mut books: Vec<&Book> = self.books_at(index).filter(fits).collect();
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = books.len() > limit;
        books.truncate(limit);
        (books, more)
    }

    /// A command is committed.
    pub(crate) fn apply(&mut self, index: Index, command: Command) {
        self.last = index;
        if self.outcomes.contains_key(&command.key) {
            return;
        }
        let fingerprint = command.fingerprint();
        let outcome = match command.action {
            Action::Buy { order, lines } => self.buy(index, order, &lines, command.at),
            Action::AddStock { book, amount } => self.change(index, book, |now| {
                let quantity = now.quantity.checked_add_signed(amount).ok_or(Refusal::OutOfStock {
                    book,
                    asked: amount.unsigned_abs(),
                    available: now.quantity,
                })?;
                Ok(Book { quantity, ..now })
            }),
            Action::SetPrice { book, cost_cents } => {
                self.change(index, book, |now| Ok(Book { cost_cents, ..now }))
            }
            Action::PutBook(new) => {
                let (book, is_new) = self.put(index, *new);
                if is_new { Outcome::Added(book) } else { Outcome::Changed(book) }
            }
            Action::RemoveBook { book } => match self.book(book) {
                Some(_) => {
                    self.set(index, book, None);
                    Outcome::Removed
                }
                None => Outcome::Refused(Refusal::NoSuchBook { book }),
            },
            Action::Load { books } => {
                let count = u32::try_from(books.len()).unwrap_or(u32::MAX);
                for book in books {
                    self.put(index, book);
                }
                Outcome::Loaded { books: count }
            }
        };
        self.outcomes.insert(command.key, (fingerprint, index, outcome));
    }

    fn set(&mut self, index: Index, id: BookId, book: Option<Book>) {
        let count = |book: Option<&Book>| book.map_or(0, |book| i128::from(book.quantity));
        *self.moved.entry(id).or_default() += count(book.as_ref()) - count(self.book(id));
        self.books.entry(id).or_default().push((index, book));
    }

    fn change(
        &mut self,
        index: Index,
        id: BookId,
        change: impl FnOnce(Book) -> Result<Book, Refusal>,
    ) -> Outcome {
        let Some(now) = self.book(id).cloned() else {
            return Outcome::Refused(Refusal::NoSuchBook { book: id });
        };
        match change(now) {
            Ok(book) => {
                let book = Book { version: index, ..book };
                self.set(index, id, Some(book.clone()));
                Outcome::Changed(book)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn put(&mut self, index: Index, new: NewBook) -> (Book, bool) {
        let NewBook { id, facts, cost_cents, quantity } = new;
        let highest = self.books_at(self.last).map(|book| book.id.get()).max().unwrap_or(0);
        let id = id.unwrap_or_else(|| BookId::try_from(highest + 1).expect("a small number is a book id"));
        let is_new = self.book(id).is_none();
        let book = Book { id, facts, cost_cents, quantity, version: index };
        self.set(index, id, Some(book.clone()));
        (book, is_new)
    }

    fn buy(&mut self, index: Index, id: OrderId, lines: &[OrderLine], at: Timestamp) -> Outcome {
        for OrderLine { book, quantity: asked } in lines {
            let Some(available) = self.book(*book).map(|book| book.quantity) else {
                return Outcome::Refused(Refusal::NoSuchBook { book: *book });
            };
            if available < *asked {
                return Outcome::Refused(Refusal::OutOfStock { book: *book, asked: *asked, available });
            }
        }
        let mut items = Vec::new();
        for OrderLine { book, quantity } in lines {
            let now = self.book(*book).cloned().expect("it was found above");
            items.push(SoldItem {
                book: *book,
                title: now.facts.title.clone(),
                quantity: *quantity,
                unit_cost_cents: now.cost_cents,
            });
            let left = Book { quantity: now.quantity - quantity, version: index, ..now };
            self.books.entry(*book).or_default().push((index, Some(left)));
        }
        let order = Order { id, items, at };
        let before = self.sales.insert(id, (index, order.clone()));
        assert!(before.is_none(), "the order {id} was sold twice: a key was not heeded");
        Outcome::Sold(order)
    }

    /// Whether a caller was told what it had to be. Returns where that happened.
    pub(crate) fn check_outcome(&self, key: &CommandKey, action: &Action, told: &Outcome) -> Index {
        let Some((fingerprint, index, outcome)) = self.outcomes.get(key) else {
            panic!("{key:?} is acknowledged and not committed: {told:?}")
        };
        let asked = Command { key: key.clone(), at: Timestamp(0), action: action.clone() };
        let conflict = Outcome::Refused(Refusal::KeyConflict);
        let expected = if asked.fingerprint() == *fingerprint { outcome } else { &conflict };
        assert_eq!(told, expected, "the outcome of {key:?}, which is entry {index}");
        *index
    }

    /// The tables of a replica, with all that is committed and nothing else; and no copy came from nowhere.
    pub(crate) fn look_at_the_end(&self, store: &Readers) {
        let all = PageQuery { topic: None, words: None, after: None, limit: 1000 };
        let read = |query: &Query| store.read(query).expect("a store in memory can be read").content;
        let Content::Page { books, .. } = read(&Query::Page(all)) else {
            unreachable!("a page was asked for")
        };
        let expected: Vec<&Book> = self.books_at(self.last).collect();
        assert_eq!(books.iter().collect::<Vec<_>>(), expected, "the books at the end");
        let query = Query::Sales { after: Index(0), limit: u32::MAX };
        let Content::Sales { sales, .. } = read(&query) else { unreachable!("sales were asked for") };
        let mut expected: Vec<(Index, Order)> = self.sales.values().cloned().collect();
        expected.sort_by_key(|(index, _)| *index);
        assert_eq!(sales, expected, "the sales at the end: an order was lost, or counted twice");
        let mut left = self.moved.clone();
        for item in sales.iter().flat_map(|(_, order)| &order.items) {
            *left.entry(item.book).or_default() -= i128::from(item.quantity);
        }
        for book in &books {
            assert_eq!(left.remove(&book.id), Some(i128::from(book.quantity)), "the stock of {}", book.id);
        }
    }
}

/// As the index of words has it, for words of small letters.
fn has_words(book: &Book, words: &str) -> bool {
    let text = [book.facts.title.as_str(), book.facts.author.as_deref().unwrap_or_default()];
    let topic = TopicKey::of(&book.facts.topic);
    let all = text.into_iter().chain([topic.as_str()]);
    let there: Vec<&str> = all.flat_map(str::split_whitespace).collect();
    let mut asked = words.split_whitespace().rev();
    let last = asked.next().is_some_and(|last| there.iter().any(|word| word.starts_with(last)));
    last && asked.all(|word| there.contains(&word))
}
