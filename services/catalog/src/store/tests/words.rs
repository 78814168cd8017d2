//! Searches by words.

use protocol::command::Action;

use super::{Fixture, book_id, buy, new_book, put};

#[test]
fn all_words_must_be_there_and_the_last_may_be_a_beginning() {
    let mut fixture = Fixture::stocked();
    let mut book = new_book(Some(5), "L'été à l'École", "Très bon");
    book.facts.author = Some("Émile Zola".to_owned());
    fixture.run(Action::PutBook(Box::new(book)));
    for (words, expected) in [
        ("rpcs", vec![1]),
        ("RPC", vec![1]),
        ("rpc dummies", vec![]),
        ("dummies rpc", vec![1]),
        ("dummies writer", vec![1]),
        ("systems", vec![1, 2]),
        ("distributed sys", vec![1, 2]),
        ("for", vec![1, 3]),
        ("writ", vec![1, 2, 3, 4]),
        ("ete ecole", vec![5]),
        ("ÉTÉ", vec![5]),
        ("e\u{301}mile", vec![5]),
        ("tres zol", vec![5]),
        ("nothing", vec![]),
        ("", vec![]),
        ("--", vec![]),
        ("\u{2014}\u{24b6}", vec![]),
    ] {
        assert_eq!(fixture.page(None, Some(words), None, 9), (expected, false), "{words}");
    }
}

#[test]
fn a_search_within_a_topic_compares_the_whole_topic() {
    let mut fixture = Fixture::stocked();
    fixture.run(put(5, "RPCs at large", "Distributed Systems at large"));
    fixture.run(put(6, "RPCs in C", "++"));
    assert_eq!(fixture.page(Some("distributed_systems"), Some("rpc"), None, 9), (vec![1], false));
    assert_eq!(fixture.page(None, Some("rpc"), None, 9), (vec![1, 5, 6], false));
    assert_eq!(fixture.page(Some("++"), Some("rpc"), None, 9), (vec![6], false));
    assert_eq!(fixture.page(Some("\"spring\" OR rpcs"), Some("rpc"), None, 9), (vec![], false));
    assert_eq!(fixture.page(Some("distributed systems"), Some("--"), None, 9), (vec![], false));
    // A vowel sign without its letter is alphanumeric, and still no word to the index.
    assert_eq!(fixture.page(Some("spring"), Some("\u{e37}"), None, 9), (vec![], false));
    fixture.run(put(7, "Война и мир", "Роман"));
    assert_eq!(fixture.page(Some("роман"), Some("мир вой"), None, 9), (vec![7], false));
    assert_eq!(fixture.page(Some("роман"), Some("мера"), None, 9), (vec![], false));
}

#[test]
fn no_text_is_syntax() {
    let fixture = Fixture::stocked();
    for words in [
        "\"",
        "\"\"",
        "rpcs\"",
        "\"rpcs\" OR \"cooking",
        "rpcs OR cooking",
        "rpcs AND cooking",
        "rpcs NOT cooking",
        "NEAR(rpcs cooking)",
        "title:rpcs cooking",
        "{title}:rpcs cooking",
        "^cooking rpcs",
        "rpcs*cooking",
        "-rpcs cooking",
        "rpcs + cooking",
        "(rpcs",
        "rpcs)",
        "*",
        "'; DROP TABLE books; --",
        "rpcs\0cooking",
        "\0",
        "%_",
        "\u{feff}",
        "\u{fffd}",
        "rpcs\u{a0}cooking",
        "🦀",
        "rpcs 🦀 cooking",
        "🦀\u{301}",
    ] {
        let (found, _) = fixture.page(None, Some(words), None, 9);
        assert!(found.is_empty() || found == [1], "{words:?} finds {found:?}");
    }
    let (found, _) = fixture.page(None, Some(&"rpcs dummies ".repeat(5_000)), None, 9);
    assert_eq!(found, [1]);
}

#[test]
fn the_index_follows_changes_and_sales_leave_it_be() {
    let mut fixture = Fixture::stocked();
    fixture.run(put(1, "Changed", "Elsewhere"));
    fixture.run(Action::RemoveBook { book: book_id(3) });
    assert_eq!(fixture.page(None, Some("rpcs"), None, 9), (vec![], false));
    assert_eq!(fixture.page(None, Some("changed elsewhere"), None, 9), (vec![1], false));
    assert_eq!(fixture.page(None, Some("cooking"), None, 9), (vec![], false));
    let pages = "SELECT count(*), total(length(block)) FROM books_words_data";
    let size = |fixture: &Fixture| -> (i64, f64) {
        fixture.store.conn.query_row(pages, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let before = size(&fixture);
    for _ in 0..5 {
        fixture.run(buy(&[(1, 1)]));
    }
    fixture.run(Action::SetPrice { book: book_id(1), cost_cents: 3 });
    assert_eq!(size(&fixture), before);
    fixture.dump();
}
