//! The client: one question at a time, put to the endpoint that answered last, and then to the others.

use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::endpoint::{Endpoint, Papers, Question};
use super::store::{Answer, Fault, Store, Txn};
use super::wire::{self, EndpointStatus, Failure};
use crate::daemon::clock::monotonic_ns;

/// How a client reaches etcd.
#[derive(Clone, Default)]
pub struct Options {
    /// URLs of etcd's members, `http://` or `https://` with a host and a port.
    pub endpoints: Vec<String>,
    /// Authorities that are trusted, PEM; empty: those of the machine. Read for each new connection, as are the others.
    pub ca_file: PathBuf,
    /// The client's certificate, PEM; empty: none.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The user; empty: none.
    pub user: String,
    /// The password of the user.
    pub password: String,
    /// How long a call may take. It tries each endpoint once at most, and each try has an equal share of what is left. A
    /// member that passed a transaction on to a leader that has just died never answers it: so a short deadline, and
    /// the same again, is through an election sooner than a long one. What is large needs a longer one.
    pub deadline: Duration,
}

/// Asks etcd: one question at a time, from plain threads, never from one that runs async code.
///
/// It keeps a connection to each endpoint, asks the one that answered last, and moves on where that one does not take a
/// connection, does not answer within its share of the deadline, breaks off, or has no leader. So a transaction may be
/// sent to several endpoints in one call, and one that timed out may be done late, even after the call and after what
/// was sent behind it. **Only send what may be done twice and late**: compare first. And a comparison that fails may
/// do so because an earlier try of the same transaction was done; where that matters, let the other branch read what
/// tells the two apart.
///
/// Nothing is connected before the first call. Who wants more in flight makes more of them, of the same options.
pub struct Client {
    options: Options,
    running: Mutex<Option<Running>>,
}

struct Running {
    runtime: Runtime,
    members: Members,
}

struct Members {
    endpoints: Vec<Endpoint>,
    /// The one that is asked first.
    first: usize,
    /// The token of the user; empty where etcd wants none.
    token: Option<String>,
}

/// A question that is put to one endpoint after another.
struct Call {
    path: &'static str,
    body: Bytes,
    /// True if it changes nothing, however often it is heard.
    is_read_only: bool,
}

impl Call {
    fn new(path: &'static str, body: impl Into<Bytes>, is_read_only: bool) -> Self {
        Call { path, body: body.into(), is_read_only }
    }
}

impl Store for Client {
    fn txn(&self, txn: &Txn) -> Result<Answer, Fault> {
        if let Some(why) = wire::too_much(txn) {
            return Err(Fault::Refused(why));
        }
        let call = Call::new("/v3/kv/txn", wire::txn_body(txn), wire::is_read_only(txn));
        self.call(&call, |body| wire::txn_answer(txn, body))
    }

    fn forget_before(&self, revision: u64) -> Result<(), Fault> {
        self.compact(revision)
    }
}

impl Client {
    /// One that is not connected yet.
    pub fn new(options: Options) -> Self {
        Client { options, running: Mutex::new(None) }
    }

    /// How each endpoint is, in the order of the configuration; each has an equal share of the deadline.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let call = Call::new("/v3/maintenance/status", "{}", true);
        let share = self.options.deadline / (self.options.endpoints.len().max(1) as u32);
        let asked = self.running(|members, runtime| {
            let endpoints = 0..members.endpoints.len();
            endpoints
                .map(|at| runtime.block_on(members.try_at(at, &self.options, &call, share, wire::health)))
                .collect::<Vec<_>>()
        });
        let count = self.options.endpoints.len();
        let asked = asked.unwrap_or_else(|why| vec![Err(Failure::Unknown(why)); count]);
        let told = |(endpoint, asked): (&String, Result<_, Failure>)| EndpointStatus {
            endpoint: endpoint.clone(),
            reachable: asked.map_err(Failure::into_text),
        };
        self.options.endpoints.iter().zip(asked).map(told).collect()
    }

    /// The alarms that are raised, each with its member: no room left (`NOSPACE`), members that differ (`CORRUPT`).
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub fn alarms(&self) -> Result<Vec<String>, Fault> {
        let body = json!({ "action": "GET" }).to_string();
        self.call(&Call::new("/v3/maintenance/alarm", body, true), wire::alarms)
    }

    /// Forgets what was before this revision and is no longer so. What is forgotten already is no fault.
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub fn compact(&self, revision: u64) -> Result<(), Fault> {
        let body = json!({ "revision": revision.to_string() }).to_string();
        self.call(&Call::new("/v3/kv/compaction", body, false), |_| Ok(()))
    }

    fn call<T: Default>(&self, call: &Call, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, Fault> {
        let asked = self.running(|members, runtime| runtime.block_on(members.ask(&self.options, call, &read)));
        asked.unwrap_or_else(|why| Err(Fault::Unknown(why)))
    }

    fn running<T>(&self, act: impl FnOnce(&mut Members, &Runtime) -> T) -> Result<T, String> {
        let mut running = self.running.lock();
        let Running { runtime, members } = match &mut *running {
            Some(running) => running,
            none => {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("no runtime for a client of etcd: {error}"))?;
                none.insert(Running { runtime, members: Members::new(&self.options.endpoints) })
            }
        };
        Ok(act(members, runtime))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Nobody waits for a name that is still being looked up.
        if let Some(running) = self.running.get_mut().take() {
            running.runtime.shutdown_background();
        }
    }
}

impl Members {
    fn new(urls: &[String]) -> Self {
        Members { endpoints: urls.iter().map(|url| Endpoint::new(url)).collect(), first: 0, token: None }
    }

    /// Puts a question to one endpoint after another, until one answers or the deadline is over.
    async fn ask<T: Default>(
        &mut self,
        options: &Options,
        call: &Call,
        read: &impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Fault> {
        let until_ns = monotonic_ns() + options.deadline.as_nanos() as u64;
        let count = self.endpoints.len();
        let mut failed = Vec::new();
        let mut may_be_done = false;
        let first = self.first;
        for step in 0..count {
            let at = (first + step) % count;
            let left = Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()));
            let share = left / ((count - step) as u32);
            let failure = match self.try_at(at, options, call, share, read).await {
                Ok(answer) => {
                    self.first = at;
                    return Ok(answer);
                }
                Err(Failure::Compacted) => return Ok(T::default()),
                Err(failure) => failure,
            };
            let is_final = !matches!(failure, Failure::Unknown(_));
            may_be_done |= matches!(failure, Failure::TooLarge(_)) && !call.is_read_only;
            failed.push(format!("{}: {}", self.endpoints[at].url, failure.into_text()));
            if is_final && !may_be_done {
                return Err(Fault::Refused(failed.join("; ")));
            }
            may_be_done |= self.endpoints[at].may_have_heard && !call.is_read_only;
            if is_final {
                break;
            }
        }
        self.first = (first + 1) % count.max(1);
        Err(Fault::Unknown(if count == 0 { "no endpoints".to_owned() } else { failed.join("; ") }))
    }

    /// Puts a question to one endpoint, within this time.
    async fn try_at<T>(
        &mut self,
        at: usize,
        options: &Options,
        call: &Call,
        share: Duration,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        self.endpoints[at].may_have_heard = false;
        let late = |_| Err(Failure::Unknown(format!("no answer within {} ms", share.as_millis())));
        let body = timeout(share, self.ask_as_user(at, options, call)).await.unwrap_or_else(late)?;
        read(&body).map_err(Failure::Unknown)
    }

    /// The same, as the user: who is made known again, once, where etcd has forgotten.
    async fn ask_as_user(&mut self, at: usize, options: &Options, call: &Call) -> Result<Bytes, Failure> {
        if options.user.is_empty() {
            return self.put(at, options, call, "").await;
        }
        if let Some(token) = self.token.clone() {
            match self.put(at, options, call, &token).await {
                Err(Failure::Unauthenticated(_)) => self.token = None,
                answered => return answered,
            }
        }
        let token = self.authenticate(at, options).await?;
        self.token = Some(token.clone());
        self.put(at, options, call, &token).await
    }

    /// The token of the user; empty where etcd does not ask who one is.
    async fn authenticate(&mut self, at: usize, options: &Options) -> Result<String, Failure> {
        let body = json!({ "name": options.user, "password": options.password }).to_string();
        match self.put(at, options, &Call::new("/v3/auth/authenticate", body, true), "").await {
            Ok(body) => wire::text_of(&body, "token").map_err(Failure::Unknown),
            Err(Failure::Refused(why)) if why.contains("authentication is not enabled") => Ok(String::new()),
            Err(failure) => Err(failure),
        }
    }

    async fn put(&mut self, at: usize, options: &Options, call: &Call, token: &str) -> Result<Bytes, Failure> {
        let papers = Papers { ca_file: &options.ca_file, cert_file: &options.cert_file, key_file: &options.key_file };
        let question = Question { path: call.path, body: call.body.clone(), token };
        self.endpoints[at].ask(papers, &question).await
    }
}
