//! Query strings and path segments: decoded, limited, and complained about by name.

use usherd_contract::flag;

use crate::daemon::http::Problem;
use crate::daemon::http::problem::FieldError;

/// Longest query string, bytes; the head has a limit of its own.
const QUERY_BYTES_MAX: usize = 8_192;
/// Rows of a page where nothing is said.
const PAGE_DEFAULT: usize = 100;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let query = query.unwrap_or("");
        if query.len() > QUERY_BYTES_MAX {
            return Err(Problem::malformed("the query is longer than 8192 bytes"));
        }
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (percent_decoded(key, true), percent_decoded(value, true)) {
                (Some(key), Some(value)) => pairs.push((key, value)),
                _ => return Err(Problem::malformed("the query is not percent-encoded UTF-8")),
            }
        }
        Ok(Query(pairs))
    }

    /// A parameter's value; an empty one counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.0.iter().find(|(own, value)| own == key && !value.is_empty()).map(|(_, value)| value.clone())
    }

    /// All parameters, decoded, in their order.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// True if a parameter is there, with or without a value, and not switched off.
    ///
    /// # Errors
    /// 400: it is neither yes nor no.
    pub(super) fn is_set(&self, key: &str) -> Result<bool, Problem> {
        let is_there = self.0.iter().any(|(own, _)| own == key);
        Ok(self.flag(key)?.unwrap_or(is_there))
    }

    /// A parameter that is yes or no, spelt as in a form.
    ///
    /// # Errors
    /// 400: it is neither.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(word) = self.get(key) else { return Ok(None) };
        let read =
            flag(&word).ok_or_else(|| self.fault(key, "must be true or false (1, 0, yes, no, on, off)".to_owned()))?;
        Ok(Some(read))
    }

    /// `after` and `limit`.
    pub(super) fn page(&self, most: usize) -> Result<(String, usize), Problem> {
        let limit = match self.get("limit") {
            None => PAGE_DEFAULT,
            Some(word) => match word.parse() {
                Ok(limit) if (1..=most).contains(&limit) => limit,
                _ => return Err(self.fault("limit", format!("must be 1 to {most}"))),
            },
        };
        Ok((self.get("after").unwrap_or_default(), limit))
    }

    /// 400 for one parameter.
    pub(super) fn fault(&self, key: &str, what: String) -> Problem {
        Problem::faulty(vec![FieldError { pointer: format!("/{key}"), detail: what.into() }])
    }
}

/// A percent-encoded text; `None` where it is not valid UTF-8 afterwards.
pub(super) fn percent_decoded(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |b: u8| char::from(b).to_digit(16);
                bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
                rest = after;
            }
            (b'%', _) => return None,
            (b'+', _) if plus_is_blank => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_its_faults_are_named() {
        let query = Query::parse(Some("after=a%20b+c&limit=5&counts=true&verbose")).unwrap();
        assert_eq!(query.page(10).unwrap(), ("a b c".to_owned(), 5));
        assert_eq!(query.flag("counts").unwrap(), Some(true));
        assert!(query.is_set("verbose").unwrap() && !query.is_set("force").unwrap());
        assert_eq!(Query::parse(Some("limit=0")).unwrap().page(10).unwrap_err().errors()[0].pointer, "/limit");
        assert!(Query::parse(Some("a=%zz")).is_err() && Query::parse(Some("a=%ff")).is_err());
    }
}
