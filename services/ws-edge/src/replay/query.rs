//! What a request for a page of the past says.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::view::Topics;

/// Patterns of one request.
const MOST_TYPES: usize = 32;

/// How many events of a page, and which. Where it begins is said as everywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// So many at most.
    pub(crate) limit: usize,
    /// Of these topics; none: all.
    pub(crate) types: Vec<Topics>,
}

/// A query that can't be followed; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadQuery {
    #[error("limit: expected a number from 1")]
    Limit,
    #[error("types: `{0}` is no pattern such as arena.agent.*.output")]
    Type(String),
    #[error("types: `{0}` is not shown on this path")]
    Root(String),
    #[error("types: {MOST_TYPES} patterns at most")]
    Many,
    #[error("{0}: given twice")]
    Twice(&'static str),
}

impl PageQuery {
    /// Reads a query. Parameters that are not ours are left to others. `limits`: how many events where it does not say so, and at
    /// most; `roots`: what is shown.
    pub(super) fn read(query: &str, limits: (usize, usize), roots: &[Arc<str>]) -> Result<Self, BadQuery> {
        let (mut limit, mut types) = (None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match &*percent_decode_str(name).decode_utf8_lossy() {
                "limit" => {
                    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                        return Err(BadQuery::Limit);
                    }
                    // More than there is room for is as much as there is room for, however much that is.
                    let number = value.parse().unwrap_or(usize::MAX).min(limits.1);
                    if number == 0 {
                        return Err(BadQuery::Limit);
                    }
                    let before = limit.replace(number);
                    before.map_or(Ok(()), |_| Err(BadQuery::Twice("limit")))?;
                }
                "types" => {
                    let before = types.replace(patterns(&value, roots)?);
                    before.map_or(Ok(()), |_| Err(BadQuery::Twice("types")))?;
                }
                _ => {}
            }
        }
        Ok(Self { limit: limit.unwrap_or(limits.0), types: types.unwrap_or_default() })
    }
}

fn patterns(list: &str, roots: &[Arc<str>]) -> Result<Vec<Topics>, BadQuery> {
    // Said back to whoever sent it, so not without end.
    let named = |text: &str| text.chars().take(64).collect();
    let mut all = Vec::new();
    for text in list.split(',') {
        let topics: Topics = text.parse().map_err(|_| BadQuery::Type(named(text)))?;
        if !roots.iter().any(|root| **root == *topics.root.as_str()) {
            return Err(BadQuery::Root(named(text)));
        }
        all.push(topics);
    }
    if all.len() > MOST_TYPES { Err(BadQuery::Many) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_followed_or_refused() {
        let roots = ["gm".into(), "arena".into()];
        let read = |query: &str| PageQuery::read(query, (500, 5000), &roots);
        assert_eq!(read(""), Ok(PageQuery { limit: 500, types: vec![] }));
        let asked = read("after=7&limit=20&types=gm.proposal,arena.agent.*.output&x=%zz").unwrap();
        let types: Vec<_> = asked.types.iter().map(ToString::to_string).collect();
        assert_eq!((asked.limit, types), (20, vec!["gm.proposal".to_owned(), "arena.agent.*.output".to_owned()]));
        for more in ["5001", "99999999999999999999999"] {
            assert_eq!(read(&format!("limit={more}")).unwrap().limit, 5000);
        }
        assert_eq!(read("types=gm.%3E").unwrap().types[0].to_string(), "gm.>");
        for (query, why) in [
            ("limit=0", BadQuery::Limit),
            ("limit=-1", BadQuery::Limit),
            ("limit=%2B1", BadQuery::Limit),
            ("limit=ten", BadQuery::Limit),
            ("limit=", BadQuery::Limit),
            ("limit=1&limit=1", BadQuery::Twice("limit")),
            ("types=", BadQuery::Type(String::new())),
            ("types=gm", BadQuery::Type("gm".into())),
            ("types=*.x", BadQuery::Type("*.x".into())),
            ("types=gm.a,,gm.b", BadQuery::Type(String::new())),
            ("types=lobby.x", BadQuery::Root("lobby.x".into())),
            ("types=gm.x&types=gm.x", BadQuery::Twice("types")),
        ] {
            assert_eq!(read(query), Err(why), "{query}");
        }
        let many = vec!["gm.x"; 33].join(",");
        assert_eq!(read(&format!("types={many}")), Err(BadQuery::Many));
    }
}
