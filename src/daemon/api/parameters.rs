//! Which parameters a query may have: a misspelt one would be a filter that does not filter.

use usherd_contract::file::nearest;

use super::query::Query;
use crate::daemon::config::one_of;
use crate::daemon::http::Problem;
use crate::daemon::http::problem::FieldError;

/// Longest name that is told back, characters.
const TOLD_CHARS_MAX: usize = 64;

/// Looks for parameters that the route does not know.
///
/// # Errors
/// 400: every one of them, with the one that was probably meant; or the query is none.
pub(super) fn check(query: Option<&str>, known: &[&str]) -> Result<(), Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
    let given = Query::parse(Some(query))?.into_pairs();
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, _) in given.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let told: String = name.chars().take(TOLD_CHARS_MAX).collect();
        let error = FieldError::of(&told, unknown(&told, known));
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::faulty(errors)) }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("is not known here: did you mean `{meant}`?"),
        None if known.is_empty() => "is not known here: this route has no parameters".to_owned(),
        None => format!("is not known here: write {}", one_of(known.iter().copied())),
    }
}
