//! Answers of the whole cluster: this member's own, joined with what each other one says of its shards.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::elsewhere::is_forwarded;
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json_bytes, text};
use crate::daemon::app::App;
use crate::daemon::cluster::{Forwarded, PeerAnswer, Shards};
use crate::daemon::http::Problem;

/// In the head of an answer to another member: the shards that it tells of, each with its fence.
const SHARDS: HeaderName = HeaderName::from_static("usherd-shards");
/// How long another member is waited for. One that shows no sign of life is not asked at all.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// Attempts where a shard moves meanwhile, so that two members tell of it.
const ATTEMPTS: usize = 3;

/// A shard and the fence by which it was decided all the while that an answer was made.
type Told = BTreeSet<(u32, u64)>;

/// An answer that can be joined with those of other members.
pub(super) trait Whole: Serialize + DeserializeOwned + Send + 'static {
    /// Takes in what the others say, and what could not be asked. Pages are cut at `limit` rows.
    fn join(&mut self, others: Vec<Self>, missing: Vec<String>, limit: usize);
}

impl Worker {
    /// Answers with what all members of the cluster say together; what is left out is named in the answer. Another
    /// member is told of this one's shards alone.
    pub(super) async fn answer_whole<A: Whole>(
        &self,
        call: &Call<'_>,
        allowed: &Allowed,
        limit: usize,
        read: impl Fn(&App) -> Result<A, Problem> + Send + Sync + 'static,
    ) -> HandlerResult {
        let Some(shards) = self.app.deciding.shards.clone() else { return self.answer_blocking(read).await };
        if is_forwarded(call.head) {
            let (own, told) = self.run_blocking(move |app| told(&shards, || read(app))).await?;
            let mut response = json_bytes(text(&own?));
            response.headers_mut().insert(SHARDS, written(&told));
            return Ok(response);
        }
        let read = Arc::new(read);
        let request = Forwarded { method: Method::GET, ..Forwarded::of(call.head, Bytes::new()) };
        for attempt in 1.. {
            let (read, of) = (Arc::clone(&read), Arc::clone(&shards));
            let own = async { self.run_blocking(move |app| told(&of, || read(app))).await };
            let others = async { Ok(self.ask_others(allowed.access(), &request, ASKED_WITHIN).await) };
            let ((own, told), others) = tokio::try_join!(own, others)?;
            let (own, of) = (own?, Arc::clone(&shards));
            let join = move |_: &App| joined(&of, own, told, others, limit);
            let (body, is_double) = self.run_blocking(join).await?;
            if !is_double || attempt == ATTEMPTS {
                return Ok(json_bytes(body));
            }
        }
        Err(Problem::unavailable(1, "shards move; ask again"))
    }
}

/// Reads, and tells of which shards.
fn told<R>(shards: &Shards, read: impl FnOnce() -> R) -> (R, Told) {
    let mine = || -> Told { shards.terms().mine().map(|shard| (shard.0, shards.term(shard))).collect() };
    let before = mine();
    let result = read();
    let after = mine();
    (result, before.intersection(&after).copied().collect())
}

/// The whole, and true if two members told of the same shard.
fn joined<A: Whole>(
    shards: &Shards,
    mut own: A,
    told: Told,
    others: Vec<(String, Option<PeerAnswer>)>,
    limit: usize,
) -> (Bytes, bool) {
    let mut of: BTreeSet<u32> = told.into_iter().map(|(shard, _)| shard).collect();
    let (mut answers, mut missing, mut is_double) = (Vec::new(), Vec::new(), false);
    for (name, answer) in others {
        let answer = answer.filter(|answer| answer.status.is_success());
        let read = answer.and_then(|answer| Some((serde_json::from_slice(&answer.body).ok()?, read(&answer.headers)?)));
        let Some((answer, told)) = read else {
            missing.push(name);
            continue;
        };
        answers.push(answer);
        for (shard, _) in told {
            is_double |= !of.insert(shard);
        }
    }
    missing.sort();
    let untold = (0..shards.terms().shards()).filter(|shard| !of.contains(shard));
    missing.extend(untold.map(|shard| format!("shard {shard}")));
    own.join(answers, missing, limit);
    (text(&own), is_double)
}

fn written(told: &Told) -> HeaderValue {
    let words: Vec<String> = told.iter().map(|(shard, fence)| format!("{shard}:{fence}")).collect();
    HeaderValue::try_from(words.join(" ")).unwrap_or(HeaderValue::from_static(""))
}

fn read(headers: &HeaderMap) -> Option<Told> {
    let words = headers.get(SHARDS)?.to_str().ok()?.split_whitespace();
    words
        .map(|word| word.split_once(':').and_then(|(shard, fence)| Some((shard.parse().ok()?, fence.parse().ok()?))))
        .collect()
}

/// A page, with where to go on.
pub(super) type Page<R> = (Vec<R>, Option<String>);

/// The first rows of pages that begin at the same place; of rows of one name the best stays, of equals the first.
pub(super) fn first_rows<R>(
    pages: Vec<Page<R>>,
    limit: usize,
    name: impl Fn(&R) -> &str,
    better: impl Fn(&R, &R) -> Ordering,
) -> Page<R> {
    let is_cut = pages.iter().any(|(_, next)| next.is_some());
    let mut rows: Vec<R> = pages.into_iter().flat_map(|(rows, _)| rows).collect();
    rows.sort_by(|a, b| name(a).cmp(name(b)).then_with(|| better(b, a)));
    rows.dedup_by(|later, first| name(later) == name(first));
    let has_more = is_cut || rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(|row| name(row).to_owned());
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_one_page_that_goes_on_where_any_of_them_does() {
        let page = |rows: &[(&'static str, u32)], next: Option<&str>| (rows.to_vec(), next.map(str::to_owned));
        let first = |pages, limit| first_rows(pages, limit, |row: &(&str, u32)| row.0, |a, b| a.1.cmp(&b.1));
        let (a, b) = (page(&[("a", 1), ("d", 1)], Some("d")), page(&[("b", 1), ("c", 1)], None));
        assert_eq!(first(vec![a.clone(), b.clone()], 2), page(&[("a", 1), ("b", 1)], Some("b")));
        assert_eq!(first(vec![a.clone(), page(&[], None)], 2), a, "it has more behind its last row");
        assert_eq!(first(vec![b.clone(), page(&[("a", 1)], None)], 3), page(&[("a", 1), ("b", 1), ("c", 1)], None));
        let twice = vec![page(&[("a", 1), ("b", 3)], None), page(&[("a", 2), ("b", 2)], None)];
        assert_eq!(first(twice, 2), page(&[("a", 2), ("b", 3)], None));
    }

    #[test]
    fn shards_that_are_told_of_come_back_from_the_head() {
        for told in [Told::new(), Told::from([(0, 7), (15, u64::MAX)])] {
            let headers = HeaderMap::from_iter([(SHARDS, written(&told))]);
            assert_eq!(read(&headers), Some(told));
        }
        for nothing in ["1", "1:", "a:1"] {
            assert_eq!(read(&HeaderMap::from_iter([(SHARDS, HeaderValue::from_static(nothing))])), None, "{nothing}");
        }
        assert_eq!(read(&HeaderMap::new()), None, "it tells of nothing");
    }
}
