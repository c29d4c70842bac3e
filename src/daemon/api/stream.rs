//! Streams: events as server-sent events or NDJSON (API 4), and batches line by line (API 2).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Worker;
use super::ask::Caller;
use super::others::Others;
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use crate::daemon::access::auth::{Access, RouteClass};
use crate::daemon::app::Publishing;
use crate::daemon::edge::collect::{BodyError, FIRST_BYTES, Room, Sender};
use crate::daemon::events::{EventType, Next, Subscriber};
use crate::daemon::http::lines::Lines;
use crate::daemon::http::{Problem, ReplyBody, ReplySender};
use crate::daemon::journal::Commit;

/// How often a silent stream says that it lives.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// Shortest and longest time between two pulses, milliseconds.
pub(super) const PULSE_MS: std::ops::RangeInclusive<u64> = 250..=60_000;
/// Chunks that are passed over for one pulse: more than the ring holds as a rule.
const DRAINED_CHUNKS_MAX: usize = 64;
/// Events of one chunk.
const CHUNK_EVENTS_MAX: usize = 256;
/// Chunks that wait for a slow client.
const CHUNKS_MAX: usize = 4;
/// Lines that are answered in one part; a read of thousands of tiny ones would make one of megabytes.
const LINES_ANSWERED_MAX: usize = 256;

/// Which events a listener gets, and how.
struct Wanted {
    tenant: Option<String>,
    types: Option<Vec<EventType>>,
    ndjson: bool,
    /// One line for all that happened in so long a time, instead of one for each event.
    pulse: Option<Duration>,
    access: Arc<Access>,
    publishing: Arc<Publishing>,
}

/// A batch that comes line by line.
struct Incomings {
    body: Incoming,
    lines: Lines,
    room: Room,
    /// How long the next part may take.
    patience: Duration,
}

impl Worker {
    /// `GET /v1/events?tenant=&types=&pulse_ms=`
    pub(super) fn events(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let (query, (_, access)) = (call.query()?, allowed.into_parts());
        let tenant = query.get("tenant");
        let types = match query.get("types") {
            None => None,
            Some(words) => {
                let types: Option<Vec<_>> = words.split(',').map(|word| EventType::from_word(word.trim())).collect();
                Some(types.ok_or_else(|| {
                    let known: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
                    query.fault("types", format!("must be a list of {}", known.join(", ")))
                })?)
            }
        };
        let pulse = pulse(&query)?;
        let headers = &call.head.headers;
        let ndjson = headers.get(ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"application/x-ndjson"));
        let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("").parse::<u64>());
        let after = match last.or_else(|| query.get("after").map(|id| id.parse())) {
            None => None,
            // The largest number there is has no successor.
            Some(Ok(id)) => Some(id.min(u64::MAX - 1)),
            Some(Err(_)) => return Err(query.fault("after", "must be the id of an event".to_owned())),
        };
        let most = self.app.configuration.running.get().settings.events.subscribers_max;
        let subscriber = self.app.publishing.events.subscribe(after, most).ok_or_else(|| {
            Problem::too_many(5, format!("{most} listen already; [events] subscribers_max allows no more"))
        })?;
        let (sender, body) = ReplyBody::stream(CHUNKS_MAX, Duration::from_secs(20));
        let clock = Arc::clone(&self.app.deciding.clock);
        let others = Others::new(self, call, &access, ndjson);
        let wanted = Wanted { tenant, types, ndjson, pulse, access, publishing: Arc::clone(&self.app.publishing) };
        tokio::task::spawn_local(async move {
            let sender = Rc::new(sender);
            let others = async {
                match others {
                    Some(others) => others.follow(Rc::clone(&sender)).await,
                    None => sender.gone().await,
                }
            };
            tokio::select! {
                () = forward(subscriber, &wanted, &sender) => {}
                () = others => {}
            }
            wanted.publishing.events.stay_awake(clock.now().uptime_ms);
        });
        Ok(streamed(body, if ndjson { "application/x-ndjson" } else { "text/event-stream" }))
    }

    /// `POST /v1/batch` with `application/x-ndjson`: a line in, a line out, without an end but the client's.
    pub(super) fn batch_lines(&self, call: &Call<'_>, body: Incoming, caller: Caller) -> HandlerResult {
        let knobs = self.knobs();
        let worker = self.sibling();
        let (sender, reply) = ReplyBody::stream(CHUNKS_MAX, knobs.write_deadline);
        let patience = knobs.body_deadline;
        // A line of who may not ask is looked at for a call that is always allowed, and none such is long.
        let (line_bytes_max, from) = match caller {
            Ok(_) => (knobs.body_bytes_max, Sender::Permitted),
            Err(_) => (knobs.body_bytes_max.min(FIRST_BYTES), Sender::Unknown),
        };
        if caller.as_ref().is_ok_and(|access| access.may(RouteClass::Decide, None)) {
            call.peer.mark_node();
        }
        let incoming = Incomings { body, lines: Lines::new(line_bytes_max), room: call.peer.room(from), patience };
        tokio::task::spawn_local(async move { worker.answer_lines(incoming, &caller, &sender).await });
        Ok(streamed(reply, "application/x-ndjson"))
    }

    async fn answer_lines(&self, incoming: Incomings, caller: &Caller, sender: &ReplySender) {
        let Incomings { mut body, mut lines, mut room, patience } = incoming;
        loop {
            let frame = tokio::select! {
                frame = tokio::time::timeout(patience, body.frame()) => frame,
                () = sender.gone() => return,
            };
            let chunk = match frame {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                // The client sends no more: what has no end of line yet is the last line.
                Ok(None) => {
                    if let Some(last) = lines.finish() {
                        self.answer_chunk(vec![Ok(last)], caller, sender).await;
                    }
                    return;
                }
                Ok(Some(Err(_))) | Err(_) => return,
            };
            lines.push(&chunk);
            let mut ready = Vec::new();
            while let Some(line) = lines.next_line() {
                ready.push(line.map_err(|_| Problem::malformed("the line is too long")));
            }
            // What has no end yet is kept; where there is no room for it, that is the answer, and the last one.
            let is_full = !room.reach(lines.held_bytes());
            if is_full {
                ready.push(Err(BodyError::NoRoom.into()));
            }
            while !ready.is_empty() {
                let later = ready.split_off(ready.len().min(LINES_ANSWERED_MAX));
                if !self.answer_chunk(std::mem::replace(&mut ready, later), caller, sender).await {
                    return;
                }
            }
            if is_full {
                return;
            }
        }
    }

    /// Decides the lines of one chunk, commits them together, and answers; `false` once the client is gone.
    async fn answer_chunk(&self, lines: Vec<Result<Bytes, Problem>>, caller: &Caller, sender: &ReplySender) -> bool {
        if lines.is_empty() {
            return true;
        }
        let now = self.app.deciding.clock.now();
        let mut out = BytesMut::with_capacity(lines.len() * 192);
        let (_, committed) = self.decide(now, |worker, mut group, events| {
            for line in &lines {
                let raw = line.as_deref().map_err(Clone::clone);
                worker.decide_raw(now, raw, caller, group.as_deref_mut(), events, &mut out);
                out.put_u8(b'\n');
            }
        });
        let left = self.elsewhere.left.take();
        if !matches!(committed.await, Commit::Durable | Commit::NotDurable) {
            return false;
        }
        let out = self.with_left(out, left, caller, false).await;
        sender.send(out.freeze()).await.is_ok()
    }
}

/// Gives a listener what it wants until it is gone.
async fn forward(mut subscriber: Subscriber, wanted: &Wanted, sender: &ReplySender) {
    if !wanted.ndjson && sender.send(Bytes::from_static(b": usherd events\n\n")).await.is_err() {
        return;
    }
    if let Some(every) = wanted.pulse {
        return beat(subscriber, every, wanted, sender).await;
    }
    loop {
        let chunk = match subscriber.take(CHUNK_EVENTS_MAX) {
            Next::Events(events) => {
                let mut out = String::new();
                for (id, event) in events.iter().filter(|(_, event)| wanted.takes(event)) {
                    let shown = wanted.publishing.sight(&wanted.access).event(event).to_json(*id);
                    wanted.write(&mut out, Some((*id, event.kind.as_str())), &shown);
                }
                out
            }
            Next::Gap { resumes_at } => {
                let mut out = String::new();
                wanted.write(&mut out, None, &format!("{{\"type\":\"gap\",\"resumes_at\":{resumes_at}}}"));
                out
            }
            Next::Nothing => match wanted.quiet(&mut subscriber, sender).await {
                Some(alive) => alive.to_owned(),
                None => return,
            },
        };
        if !chunk.is_empty() && sender.send(chunk.into()).await.is_err() {
            return;
        }
    }
}

/// Tells a listener that something happened that it wants to know of, and no more often than it asked for.
async fn beat(mut subscriber: Subscriber, every: Duration, wanted: &Wanted, sender: &ReplySender) {
    loop {
        let (mut newest, mut count) = (0, 0);
        for _ in 0..DRAINED_CHUNKS_MAX {
            match subscriber.take(CHUNK_EVENTS_MAX) {
                Next::Events(events) => {
                    newest = events.last().map_or(newest, |(id, _)| *id);
                    count += events.iter().filter(|(_, event)| wanted.takes(event)).count();
                }
                Next::Gap { .. } => count += 1,
                Next::Nothing => break,
            }
        }
        let mut line = String::new();
        let pause = match count {
            0 => match wanted.quiet(&mut subscriber, sender).await {
                Some(alive) => {
                    line.push_str(alive);
                    Duration::ZERO
                }
                None => return,
            },
            _ => {
                let json = format!("{{\"id\":{newest},\"type\":\"pulse\",\"events\":{count}}}");
                wanted.write(&mut line, Some((newest, "pulse")), &json);
                every
            }
        };
        if !line.is_empty() && sender.send(line.into()).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sender.gone() => return,
        }
    }
}

/// `pulse_ms`
fn pulse(query: &Query) -> Result<Option<Duration>, Problem> {
    match query.get("pulse_ms").map(|word| word.parse()) {
        None => Ok(None),
        Some(Ok(ms)) if PULSE_MS.contains(&ms) => Ok(Some(Duration::from_millis(ms))),
        Some(_) => Err(query.fault("pulse_ms", format!("must be {} to {}", PULSE_MS.start(), PULSE_MS.end()))),
    }
}

impl Wanted {
    /// Waits for something new; what to say where there is nothing for long, and `None` once the client is gone.
    async fn quiet(&self, subscriber: &mut Subscriber, sender: &ReplySender) -> Option<&'static str> {
        tokio::select! {
            () = subscriber.changed() => Some(""),
            () = tokio::time::sleep(COMMENT_EVERY) => Some(if self.ndjson { "\n" } else { ": alive\n\n" }),
            () = sender.gone() => None,
        }
    }

    fn takes(&self, event: &crate::daemon::events::Event) -> bool {
        // What concerns the whole daemon, as the diff of a reload, names every tenant (I29).
        let seen =
            if event.tenant.is_empty() { self.access.tenants.is_empty() } else { self.access.sees(&event.tenant) };
        seen && self.tenant.as_ref().is_none_or(|tenant| event.tenant == *tenant)
            && self.types.as_ref().is_none_or(|types| types.contains(&event.kind))
    }

    fn write(&self, out: &mut String, named: Option<(u64, &str)>, json: &str) {
        if !self.ndjson {
            match named {
                Some((id, kind)) => out.push_str(&format!("id: {id}\nevent: {kind}\ndata: ")),
                None => out.push_str("event: gap\ndata: "),
            }
        }
        out.push_str(json);
        out.push_str(if self.ndjson { "\n" } else { "\n\n" });
    }
}

fn streamed(body: ReplyBody, content_type: &'static str) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
