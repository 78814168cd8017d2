//! What a read asks of the caches between it and the store: `Cache-Control: no-cache`, `If-None-Match`.

use http::header::{CACHE_CONTROL, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};

use crate::app::Freshness;

/// Whether the request asks past the cache.
pub(crate) fn freshness(headers: &HeaderMap) -> Freshness {
    let past = headers.get_all(CACHE_CONTROL).iter().any(is_no_cache);
    if past { Freshness::PastCache } else { Freshness::Cached }
}

/// Whether a `Cache-Control` holds `no-cache`.
pub(crate) fn is_no_cache(value: &HeaderValue) -> bool {
    let mut directives = value.as_bytes().split(|b| *b == b',');
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
}

/// Whether the caller has this very answer: an `If-None-Match` names its tag, or any tag will do.
pub(crate) fn caller_has(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|list| names(list.as_bytes(), opaque(etag.as_bytes())))
}

/// The tag without its mark of weakness: `If-None-Match` compares weakly.
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// Walks a list of tags. A tag may hold a comma, so the list can't be cut at commas.
fn names(list: &[u8], wanted: &[u8]) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    while let Some((tag, after)) = first_tag(rest) {
        if tag == wanted {
            return true;
        }
        let after = after.trim_ascii_start();
        match after.strip_prefix(b",") {
            Some(next) => rest = next.trim_ascii_start(),
            None => return false,
        }
    }
    false
}

/// The first tag, quotes included, and what follows it.
fn first_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let list = opaque(list);
    let inside = list.strip_prefix(b"\"")?;
    let end = inside.iter().position(|b| *b == b'"')?;
    list.split_at_checked(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_whole() {
        let cases = [
            (r#""7""#, true),
            (r#"W/"7""#, true),
            ("*", true),
            (" * ", true),
            (r#""1", "7""#, true),
            (r#""1" ,W/"7""#, true),
            (r#""a,b","7""#, true),
            (r#""a,"7""#, false),
            (r#""77""#, false),
            ("7", false),
            (r#"w/"7""#, false),
            (r#""7"#, false),
            ("", false),
            (r#""1" "7""#, false),
        ];
        for (list, expected) in cases {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, list.parse().unwrap())]);
            for etag in [r#""7""#, r#"W/"7""#] {
                assert_eq!(caller_has(&headers, &etag.parse().unwrap()), expected, "{list}");
            }
        }
        let mut headers = HeaderMap::from_iter([(IF_NONE_MATCH, "\"1\"".parse().unwrap())]);
        headers.append(IF_NONE_MATCH, "\"7\"".parse().unwrap());
        assert!(caller_has(&headers, &"\"7\"".parse().unwrap()), "in a second header");
        assert!(!caller_has(&HeaderMap::new(), &"\"7\"".parse().unwrap()));
    }

    #[test]
    fn no_cache_is_found_among_directives() {
        for (value, expected) in [
            ("no-cache", true),
            ("max-age=0, No-Cache", true),
            ("no-cache-please", false),
            ("max-age=0", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())]);
            assert_eq!(freshness(&headers) == Freshness::PastCache, expected, "{value}");
        }
    }
}
