//! Events of the other members of a cluster, told to a listener of this one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::elsewhere::is_forwarded;
use super::routes::Call;
use super::{Worker, text};
use crate::answers::events::Event;
use crate::answers::words::EventType;
use crate::daemon::access::auth::Access;
use crate::daemon::cluster::{Forwarded, Member, Peers, Shards};
use crate::daemon::http::ReplySender;
use crate::daemon::http::lines::Lines;

/// How long a member may take to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);
/// A member says every 15 seconds that it lives; one that is silent for so long is asked anew.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Between two looks for members that came, and before one is asked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest line of an event, bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The other members, as one listener follows them.
pub(super) struct Others {
    peers: Peers,
    shards: Arc<Shards>,
    access: Arc<Access>,
    request: Forwarded,
    ndjson: bool,
    /// Members that could not be followed, as the listener knows.
    lost: RefCell<BTreeSet<String>>,
}

impl Others {
    /// All others, for who asks; `None` on one machine, and where another member asks, who follows everybody itself.
    pub(super) fn new(worker: &Worker, call: &Call<'_>, access: &Arc<Access>, ndjson: bool) -> Option<Rc<Self>> {
        let shards = worker.app.deciding.shards.clone().filter(|_| !is_forwarded(call.head))?;
        // Each member has ids of its own: where to resume says nothing about the others.
        let query = call.head.uri.query().unwrap_or_default();
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("after=")).collect();
        let lines = HeaderValue::from_static("application/x-ndjson");
        let request = Forwarded {
            method: Method::GET,
            target: format!("/v1/events?{}", kept.join("&")),
            headers: HeaderMap::from_iter([(ACCEPT, lines)]),
            body: Bytes::new(),
        };
        let (peers, access) = (worker.elsewhere.peers.clone(), Arc::clone(access));
        Some(Rc::new(Others { peers, shards, access, request, ndjson, lost: RefCell::default() }))
    }

    /// Tells of them until the listener is gone.
    pub(super) async fn follow(self: Rc<Self>, sender: Rc<ReplySender>) {
        let (mut streams, mut followed) = (JoinSet::new(), BTreeSet::new());
        loop {
            for member in self.shards.others() {
                if followed.insert(member.name.clone()) {
                    let (others, sender) = (Rc::clone(&self), Rc::clone(&sender));
                    streams.spawn_local(async move {
                        others.follow_one(&member, &sender).await;
                        sleep(LOOK_EVERY).await;
                        member.name
                    });
                }
            }
            tokio::select! {
                Some(Ok(name)) = streams.join_next() => {
                    followed.remove(&name);
                }
                () = sleep(LOOK_EVERY) => {}
                () = sender.gone() => return,
            }
        }
    }

    /// Tells of one until it ends, and says so then: what comes until it is followed again is missed.
    async fn follow_one(&self, member: &Member, sender: &ReplySender) {
        let begun = self.peers.open(&self.shards, member, &self.access, &self.request, BEGUN_WITHIN).await;
        if let Ok(body) = begun {
            self.lost.borrow_mut().remove(&member.name);
            self.pass_on(body, sender).await;
        }
        if self.lost.borrow_mut().insert(member.name.clone()) {
            let _ = sender.send(self.written("gap", r#"{"type":"gap"}"#).into()).await;
        }
    }

    async fn pass_on(&self, mut body: Incoming, sender: &ReplySender) {
        let mut lines = Lines::new(LINE_BYTES_MAX);
        while let Ok(Some(Ok(frame))) = timeout(SILENCE_MAX, body.frame()).await {
            lines.push(&frame.into_data().unwrap_or_default());
            let mut out = String::new();
            while let Some(line) = lines.next_line() {
                let event = line.ok().and_then(|line| serde_json::from_slice::<Event>(&line).ok());
                // Every member tells of nodes, which speak to all of them.
                if let Some(event) = event.filter(|event| event.event != EventType::Node.into()) {
                    let event = Event { id: None, resumes_at: None, ..event };
                    out.push_str(&self.written(&event.event, &String::from_utf8_lossy(&text(&event))));
                }
            }
            if sender.send(out.into()).await.is_err() {
                return;
            }
        }
    }

    fn written(&self, kind: &str, json: &str) -> String {
        if self.ndjson { format!("{json}\n") } else { format!("event: {kind}\ndata: {json}\n\n") }
    }
}
