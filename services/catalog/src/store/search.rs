//! From what a person types to what the index of words is asked.
//!
//! The text is cut into words here and each word is quoted, so nothing in it is ever syntax to FTS5. All
//! words must be found; the last one may be the beginning of one.

use protocol::catalogue::TopicKey;

/// Only so many words of a search count: no title has more, and each costs a look into the index.
const WORDS_MAX: usize = 32;

/// The query for FTS5, or nothing if the text holds no word: then nothing is found.
///
/// A topic is put in as a phrase, which narrows the search to a few more books than are wanted: the
/// caller compares the whole topic as well.
pub(super) fn query(text: &str, topic: Option<&TopicKey>) -> Option<String> {
    let words: Vec<&str> =
        text.split(is_between_words).filter(|word| is_word(word)).take(WORDS_MAX).collect();
    if words.is_empty() {
        return None;
    }
    let mut query = String::with_capacity(text.len() + 4 * words.len());
    if let Some(topic) = topic.map(TopicKey::as_str).filter(|topic| is_word(topic)) {
        query.push_str("topic_key : ");
        push_quoted(&mut query, topic);
        query.push(' ');
    }
    for word in &words {
        push_quoted(&mut query, word);
        query.push(' ');
    }
    query.pop();
    query.push('*');
    Some(query)
}

/// ASCII is cut here as FTS5 cuts it; beyond ASCII it is left to FTS5, which knows what joins letters.
fn is_between_words(c: char) -> bool {
    if c.is_ascii() { !c.is_ascii_alphanumeric() } else { c.is_whitespace() }
}

fn is_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

fn push_quoted(query: &mut String, text: &str) {
    query.push('"');
    for c in text.chars() {
        if c == '"' {
            query.push('"');
        }
        // A NUL would end the query there.
        query.push(if c == '\0' { ' ' } else { c });
    }
    query.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_the_last_is_a_beginning() {
        let cases = [
            ("rpc", Some(r#""rpc"*"#)),
            ("RPCs for du", Some(r#""RPCs" "for" "du"*"#)),
            ("  a,b  ", Some(r#""a" "b"*"#)),
            (r#"a" OR title:"b* NEAR(c)"#, Some(r#""a" "OR" "title" "b" "NEAR" "c"*"#)),
            ("don't", Some(r#""don" "t"*"#)),
            ("e\u{301}te\u{301}", Some("\"e\u{301}te\u{301}\"*")),
            ("", None),
            (" \"*-+^:(){} ", None),
            ("\u{2014}", None),
        ];
        for (text, expected) in cases {
            assert_eq!(query(text, None).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_topic_is_one_more_phrase() {
        let topic = TopicKey::of("Graduate-\"School\"");
        let expected = r#"topic_key : "graduate ""school""" "cook"*"#;
        assert_eq!(query("cook", Some(&topic)).as_deref(), Some(expected));
        assert_eq!(query("cook", Some(&TopicKey::of("++"))).as_deref(), Some(r#""cook"*"#));
    }

    #[test]
    fn an_endless_text_is_a_bounded_query() {
        let query = query(&"word ".repeat(10_000), None).unwrap();
        assert_eq!(query.matches("word").count(), WORDS_MAX);
    }
}
