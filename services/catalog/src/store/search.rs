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
    let mut wanted = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    wanted.push('*');
    let Some(topic) = topic.map(TopicKey::as_str).filter(|topic| is_word(topic)) else { return Some(wanted) };
    let narrowed = format!("topic_key : {} {wanted}", quoted(topic));
    // FTS5 passes over what is no word to it, such as a vowel sign without its letter. If that is all that is
    // wanted, the topic would be found by itself.
    let is_sure = words.iter().any(|word| word.contains(|c: char| c.is_ascii_alphanumeric()));
    Some(if is_sure { narrowed } else { format!("({wanted}) AND ({narrowed})") })
}

/// ASCII is cut here as FTS5 cuts it; beyond ASCII it is left to FTS5, which knows what joins letters.
fn is_between_words(c: char) -> bool {
    if c.is_ascii() { !c.is_ascii_alphanumeric() } else { c.is_whitespace() }
}

fn is_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

fn quoted(text: &str) -> String {
    // A NUL would end the query there.
    format!("\"{}\"", text.replace('"', "\"\"").replace('\0', " "))
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
        let expected = r#"("мир"*) AND (topic_key : "роман" "мир"*)"#;
        assert_eq!(query("мир", Some(&TopicKey::of("роман"))).as_deref(), Some(expected));
    }

    #[test]
    fn an_endless_text_is_a_bounded_query() {
        let query = query(&"word ".repeat(10_000), None).unwrap();
        assert_eq!(query.matches("word").count(), WORDS_MAX);
    }
}
