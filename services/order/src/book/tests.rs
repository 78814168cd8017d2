//! The book on real files.

use std::fs;

use protocol::catalogue::SoldItem;
use protocol::ids::{BookId, OrderId, Timestamp};

use super::*;

const SHARD: ShardId = ShardId(0);

fn order(id: u128, cost: u64) -> Order {
    let item = |book: u64, quantity| SoldItem {
        book: BookId::try_from(book).unwrap(),
        title: format!("book {book}"),
        quantity,
        unit_cost_cents: cost,
    };
    Order { id: OrderId(id), items: vec![item(7, 2), item(1, 1)], at: Timestamp(1_000 + 5) }
}

fn sales(shard: ShardId, sales: &[(u64, u128)]) -> Change {
    let sales = sales.iter().map(|(index, id)| (Index(*index), order(*id, 10))).collect();
    Change::Sales { shard, sales }
}

fn advance(shard: ShardId, index: u64) -> Change {
    Change::Advance { shard, cursor: cursor(index) }
}

fn cursor(index: u64) -> Cursor {
    Cursor { index: Index(index), chain: Chain(u128::from(index) << 100) }
}

fn ids(readers: &Readers) -> Vec<u128> {
    readers.page(None, 1000).unwrap().0.into_iter().map(|order| order.id.0).collect()
}

fn index_of(book: &Book, id: u128) -> i64 {
    let sql = "SELECT idx FROM orders WHERE order_id = ?1";
    book.conn.query_row(sql, [id.to_be_bytes()], |row| row.get(0)).unwrap()
}

#[test]
fn an_order_is_read_as_it_was_entered() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
    assert_eq!(readers.order(OrderId(1)).unwrap(), None);
    book.write(&[sales(SHARD, &[(4, u128::MAX - 1)])]).unwrap();
    assert_eq!(readers.order(OrderId(u128::MAX - 1)).unwrap(), Some(order(u128::MAX - 1, 10)));
    let total: i64 = book.conn.query_row("SELECT total_cents FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(total, 30);
}

#[test]
fn entering_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
    let feed = [sales(SHARD, &[(1, 11), (2, 12)]), advance(SHARD, 2)];
    book.write(&feed).unwrap();
    book.write(&feed).unwrap();
    // A repeated buy brings its first sale again, at whatever index: the first one stands.
    let repeated = Change::Sales { shard: SHARD, sales: vec![(Index(3), order(11, 99))] };
    book.write(&[repeated, advance(SHARD, 3)]).unwrap();
    assert_eq!(ids(&readers), [12, 11]);
    assert_eq!(readers.order(OrderId(11)).unwrap(), Some(order(11, 10)));
    assert_eq!(index_of(&book, 11), 1);
    assert_eq!(book.cursors().unwrap()[&SHARD], cursor(3));
}

#[test]
fn one_shard_is_forgotten_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 2).unwrap();
    let other = ShardId(1);
    book.write(&[sales(SHARD, &[(1, 11)]), advance(SHARD, 1), sales(other, &[(1, 21)]), advance(other, 1)])
        .unwrap();
    book.write(&[Change::Forget { shard: SHARD }]).unwrap();
    assert_eq!(ids(&readers), [21]);
    assert_eq!(book.cursors().unwrap(), BTreeMap::from([(other, cursor(1))]));
}

#[test]
fn pages_go_from_the_newest_to_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
    let all: Vec<(u64, u128)> = (1..=5).map(|n| (n, 100 + u128::from(n))).collect();
    book.write(&[sales(SHARD, &all)]).unwrap();
    let page = |before: Option<u128>, limit| {
        let (orders, more) = readers.page(before.map(OrderId), limit).unwrap();
        (orders.into_iter().map(|order| order.id.0).collect::<Vec<_>>(), more)
    };
    assert_eq!(page(None, 2), (vec![105, 104], true));
    assert_eq!(page(Some(104), 2), (vec![103, 102], true));
    assert_eq!(page(Some(102), 2), (vec![101], false));
    assert_eq!(page(Some(101), 2), (vec![], false));
    assert_eq!(page(None, 5), (vec![105, 104, 103, 102, 101], false));
    assert_eq!(page(None, 0), (vec![105], true), "a page has an order at least");
    assert!(!page(None, u32::MAX).1);
}

#[test]
fn the_book_is_there_after_it_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
    book.write(&[sales(SHARD, &[(1, 11)]), advance(SHARD, 1)]).unwrap();
    drop((book, readers));
    let Opened { book, readers } = Book::open(dir.path(), 1).unwrap();
    assert_eq!(ids(&readers), [11]);
    assert_eq!(book.cursors().unwrap()[&SHARD], cursor(1));
    assert_eq!(set_aside_in(dir.path()), 0);
}

fn set_aside_in(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| {
            name.starts_with("orders.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .count()
}

fn filled(dir: &Path) -> PathBuf {
    let Opened { mut book, readers } = Book::open(dir, 1).unwrap();
    let many: Vec<(u64, u128)> = (1..=2000).map(|n| (n, u128::from(n))).collect();
    book.write(&[sales(SHARD, &many), advance(SHARD, 2000)]).unwrap();
    drop((book, readers));
    dir.join(FILE)
}

type Spoil = fn(&Path);

#[test]
fn what_is_no_book_is_set_aside_and_begun_anew() {
    let other_program = |path: &Path| {
        fs::remove_file(path).unwrap();
        Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE t (x); PRAGMA application_id = 5")
            .unwrap();
    };
    let no_table = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("DROP TABLE orders").unwrap();
    };
    let spoilt_cursor = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("UPDATE cursors SET chain = x'00'").unwrap();
    };
    let no_such_shard = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("UPDATE cursors SET shard = 1").unwrap();
    };
    let no_shards = |path: &Path| {
        Connection::open(path)
            .unwrap()
            .execute_batch("UPDATE cut SET shards = 0; DELETE FROM cursors")
            .unwrap();
    };
    let no_count = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("DROP TABLE cut").unwrap();
    };
    let garbage = |path: &Path| fs::write(path, "x".repeat(9000)).unwrap();
    let short = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..700]).unwrap();
    let ways: [(&str, Spoil); 8] = [
        ("garbage", garbage),
        ("cut short", short),
        ("another program's", other_program),
        ("a table is missing", no_table),
        ("a cursor is spoilt", spoilt_cursor),
        ("a cursor of a shard beyond its own count", no_such_shard),
        ("a count that can't be", no_shards),
        ("no count", no_count),
    ];
    for (name, spoil) in ways {
        let dir = tempfile::tempdir().unwrap();
        spoil(&filled(dir.path()));
        let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
        assert_eq!(set_aside_in(dir.path()), 1, "{name}");
        assert!(book.cursors().unwrap().is_empty(), "{name}");
        book.write(&[sales(SHARD, &[(1, 11)])]).unwrap();
        assert_eq!(ids(&readers), [11], "{name}");
    }
}

#[test]
fn a_deleted_or_an_empty_file_is_a_new_book() {
    for empty in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
        book.write(&[sales(SHARD, &[(1, 11)]), advance(SHARD, 1)]).unwrap();
        // As after a SIGKILL: the log is left behind, the file goes.
        let left = dir.path().join("left");
        fs::copy(dir.path().join("orders.db-wal"), &left).unwrap();
        drop((book, readers));
        fs::rename(left, dir.path().join("orders.db-wal")).unwrap();
        if empty {
            fs::write(dir.path().join(FILE), "").unwrap();
        } else {
            fs::remove_file(dir.path().join(FILE)).unwrap();
        }
        let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
        assert!(book.cursors().unwrap().is_empty());
        assert_eq!(ids(&readers), Vec::<u128>::new());
        book.write(&[sales(SHARD, &[(1, 12)])]).unwrap();
        assert_eq!(ids(&readers), [12]);
    }
}

#[test]
fn a_book_of_another_count_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 4).unwrap();
    // Of one shard only: the others have sold nothing yet, and it still is a book of four.
    book.write(&[sales(SHARD, &[(1, 11)]), advance(SHARD, 1)]).unwrap();
    drop((book, readers));
    let before = fs::read(dir.path().join(FILE)).unwrap();
    for wanted in [1, 2, 3, 5, 8] {
        let refused = Book::open(dir.path(), wanted).unwrap_err();
        assert!(matches!(refused, BookError::OtherCount { found: 4, .. }), "{refused}");
        let told = [
            dir.path().join(FILE).display().to_string(),
            format!("it has orders of 4 shards, but `shards.count` is {wanted}; set it back"),
        ];
        assert!(told.iter().all(|part| refused.to_string().contains(part)), "{refused}");
        assert!(fs::read(dir.path().join(FILE)).unwrap() == before, "{wanted}");
        assert_eq!(set_aside_in(dir.path()), 0);
    }
    let Opened { book, readers } = Book::open(dir.path(), 4).unwrap();
    assert_eq!((ids(&readers), book.cursors().unwrap()[&SHARD]), (vec![11], cursor(1)));
}

#[test]
fn a_book_that_has_nothing_is_of_any_count() {
    let dir = tempfile::tempdir().unwrap();
    for shards in [4, 2, 8] {
        Book::open(dir.path(), shards).unwrap();
    }
    Book::open(dir.path(), 4).unwrap().book.write(&[advance(SHARD, 1)]).unwrap();
    assert!(matches!(Book::open(dir.path(), 8), Err(BookError::OtherCount { found: 4, wanted: 8, .. })));
    // Also after it was set aside: the new one has been told nothing yet.
    let Opened { mut book, readers } = Book::open(dir.path(), 4).unwrap();
    book.replace(&readers, &BookError::damaged(book.path(), "as the test says")).unwrap();
    drop((book, readers));
    Book::open(dir.path(), 8).unwrap();
}

/// It does not say its count.
#[test]
fn a_book_of_version_2_is_of_any_count_that_its_cursors_fit_in_until_something_is_entered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    Book::open(dir.path(), 4)
        .unwrap()
        .book
        .write(&[sales(SHARD, &[(1, 11)]), advance(ShardId(2), 1)])
        .unwrap();
    let to_version_2 = "DROP TABLE cut; PRAGMA user_version = 2";
    Connection::open(&path).unwrap().execute_batch(to_version_2).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Book::open(dir.path(), 2).unwrap_err();
    assert!(matches!(refused, BookError::OtherCount { found: 3, wanted: 2, .. }), "{refused}");
    assert!(fs::read(&path).unwrap() == before);
    for shards in [8, 4] {
        assert_eq!(ids(&Book::open(dir.path(), shards).unwrap().readers), [11], "{shards}");
    }
    Book::open(dir.path(), 4).unwrap().book.write(&[advance(ShardId(3), 1)]).unwrap();
    assert!(matches!(Book::open(dir.path(), 8), Err(BookError::OtherCount { found: 4, .. })));
}

#[test]
fn a_newer_book_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let newer = schema::version_known() + 1;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", newer).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Book::open(dir.path(), 1).unwrap_err();
    assert!(matches!(refused, BookError::TooNew { found, .. } if found == newer), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(set_aside_in(dir.path()), 0);
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_set_aside_at_the_start_or_when_it_is_met() {
    let whole = tempfile::tempdir().unwrap();
    let path = filled(whole.path());
    // As after a SIGKILL: what came last is in the log alone.
    let Opened { mut book, readers } = Book::open(whole.path(), 1).unwrap();
    book.write(&[sales(SHARD, &[(2001, 2001)]), advance(SHARD, 2001)]).unwrap();
    let copies = [path.clone(), path.with_extension("db-wal")].map(|file| fs::read(file).unwrap());
    drop((book, readers));
    for with_log in [false, true] {
        for length in (0..copies[0].len()).step_by(3_000) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), &copies[0][..length]).unwrap();
            if with_log {
                fs::write(dir.path().join("orders.db-wal"), &copies[1]).unwrap();
            }
            let opened = Book::open(dir.path(), 1);
            let Opened { mut book, readers } =
                opened.unwrap_or_else(|problem| panic!("{length} bytes, log {with_log}: {problem}"));
            readers
                .page(None, 1)
                .unwrap_or_else(|problem| panic!("{length} bytes, log {with_log}: {problem}"));
            let change = [sales(SHARD, &[(2002, 2002)]), advance(SHARD, 2002)];
            let met = book.write(&change).err().or_else(|| readers.page(None, 1000).err());
            if let Some(damage) = met {
                assert!(damage.is_damage(), "{length} bytes, log {with_log}: {damage}");
                book.replace(&readers, &damage).unwrap();
                book.write(&change).unwrap();
            }
            assert!(ids(&readers).contains(&2002), "{length} bytes, log {with_log}");
        }
    }
}

#[test]
fn damage_found_later_is_replaced_under_its_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    // What is read at the start is whole, so it opens. A page of older orders is not.
    let mut bytes = fs::read(&path).unwrap();
    let (leaf, order) = (0x0a, 1_000_u128.to_be_bytes());
    let has_it = |page: &&mut [u8]| page[0] == leaf && page.windows(order.len()).any(|part| part == order);
    bytes.chunks_mut(4096).find(has_it).unwrap().fill(0xee);
    fs::write(&path, bytes).unwrap();
    let Opened { mut book, readers } = Book::open(dir.path(), 1).unwrap();
    let damage = readers.order(OrderId(1_000)).unwrap_err();
    assert!(damage.is_damage(), "{damage}");
    book.replace(&readers, &damage).unwrap();
    assert_eq!(set_aside_in(dir.path()), 1);
    book.write(&[sales(SHARD, &[(1, 11)]), advance(SHARD, 1)]).unwrap();
    assert_eq!(ids(&readers), [11]);
    drop((book, readers));
    let Opened { book, readers } = Book::open(dir.path(), 1).unwrap();
    assert_eq!(ids(&readers), [11]);
    assert_eq!(book.cursors().unwrap()[&SHARD], cursor(1));
}
