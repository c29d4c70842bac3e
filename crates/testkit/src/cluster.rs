//! Several daemons over one etcd.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::etcd::{Etcd, free_address};
use crate::http::{Answer, Client};
use crate::process::{Site, Usherd, own_ip};
use crate::relay::Relay;
use crate::wait::eventually;
use serde_json::Value;
use usherd::daemon::journal::Shard;

/// The daemons of a cluster, each with a folder and an address of its own.
pub struct Fleet {
    /// In their order.
    pub members: Vec<Member>,
    /// Their store.
    pub etcd: Etcd,
}

/// One daemon.
pub struct Member {
    /// Its folder.
    pub site: Site,
    /// Its main listener.
    pub address: SocketAddr,
    /// The process, while it runs.
    pub usherd: Option<Usherd>,
    /// Where it speaks RESP.
    pub resp: Option<SocketAddr>,
}

/// The file of a tenant with so many seats.
pub fn tenant(id: &str, seats: u32) -> String {
    format!("id = \"{id}\"\nkind = \"nfr\"\nseats = {seats}\n")
}

impl Fleet {
    /// So many daemons, not started yet; `section` is added to `[cluster]`. They wait for a record for as long as a busy
    /// machine takes, unless it has a `[nodes]` of its own.
    pub fn new(etcd: Etcd, count: usize, section: &str, tenants: &[(&str, &str)]) -> Self {
        let endpoints = etcd.endpoints();
        Self::reached(etcd, count, section, tenants, |_| endpoints.clone())
    }

    /// The same, where each reaches etcd in a way of its own.
    pub fn reached(
        etcd: Etcd,
        count: usize,
        section: &str,
        tenants: &[(&str, &str)],
        endpoints: impl Fn(usize) -> Vec<String>,
    ) -> Self {
        Self::with_doors(etcd, count, section, tenants, endpoints, |address| address)
    }

    /// The same, where the others reach each by a wire.
    pub fn behind_doors(
        etcd: Etcd,
        count: usize,
        section: &str,
        tenants: &[(&str, &str)],
        endpoints: impl Fn(usize) -> Vec<String>,
    ) -> (Self, Vec<Relay>) {
        let mut doors = Vec::new();
        let fleet = Self::with_doors(etcd, count, section, tenants, endpoints, |address| {
            let door = Relay::to(&own_ip().to_string(), address);
            let shown = door.address;
            doors.push(door);
            shown
        });
        (fleet, doors)
    }

    fn with_doors(
        etcd: Etcd,
        count: usize,
        section: &str,
        tenants: &[(&str, &str)],
        endpoints: impl Fn(usize) -> Vec<String>,
        mut door: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Self {
        let members = (0..count).map(|at| {
            let address = free_address();
            let shown = door(address);
            let name = name(at);
            let endpoints = endpoints(at);
            let patience = if section.contains("[nodes]") { "" } else { "[nodes]\ndeadline_ms = 5000\n" };
            let main = format!(
                "[cluster]\nengine = \"etcd\"\nname = \"test\"\nmember = \"{name}\"\nendpoints = {endpoints:?}\n\
                 advertise = \"http://{shown}\"\ntoken_file = \"cluster.token\"\n{section}\n{patience}"
            );
            let site = Site::new(&main, tenants);
            std::fs::write(site.path("cluster.token"), "a secret that only these daemons know\n").unwrap();
            site.listen(address);
            Member { site, address, usherd: None, resp: None }
        });
        Fleet { members: members.collect(), etcd }
    }

    /// Starts a member, and waits until it listens and decides what is its own.
    pub fn start(&mut self, at: usize) {
        self.members[at].usherd = Some(self.members[at].site.start());
    }

    /// Starts all, and waits until somebody decides every tenant.
    pub fn start_all(&mut self) {
        for member in &mut self.members {
            member.usherd = Some(member.site.spawn());
        }
        for member in &mut self.members {
            member.usherd.as_mut().unwrap().until_ready();
        }
        self.until_served();
    }

    /// A new connection to a member.
    pub fn client(&self, at: usize) -> Client {
        Client::connect(self.members[at].address).unwrap()
    }

    /// Waits until somebody who runs decides every tenant.
    pub fn until_served(&self) {
        let running = || (0..self.members.len()).filter(|at| self.members[*at].usherd.is_some());
        eventually("every shard to have an owner", || {
            running().all(|at| self.ready(at)["cluster"]["missing"] == Value::Array(Vec::new())).then_some(())
        });
    }

    /// A member's word on how ready it is.
    pub fn ready(&self, at: usize) -> Value {
        self.client(at).get("/readyz?verbose").json()
    }

    /// The shards of each member, as one of them sees it.
    pub fn owners(&self, at: usize) -> BTreeMap<String, Vec<u64>> {
        let ready = self.ready(at);
        let mut owners = BTreeMap::<String, Vec<u64>>::new();
        for (shard, owner) in ready["cluster"]["owners"].as_array().unwrap().iter().enumerate() {
            owners.entry(owner.as_str().unwrap_or_default().to_owned()).or_default().push(shard as u64);
        }
        owners
    }

    /// Has every member speak RESP, too; before the start.
    pub fn listen_resp(&mut self) {
        for member in &mut self.members {
            let address = free_address();
            let main = std::fs::read_to_string(member.site.path("usherd.toml")).unwrap();
            let listener = format!("[[listener]]\nlisten = \"{address}\"\nprotocol = \"resp\"\n");
            std::fs::write(member.site.path("usherd.toml"), format!("{main}\n{listener}")).unwrap();
            member.resp = Some(address);
        }
    }

    /// A connection over which a member speaks RESP.
    pub fn resp(&self, at: usize) -> Client {
        Client::connect(self.members[at].resp.expect("it listens")).unwrap()
    }

    /// The member that decides a tenant.
    pub fn owner(&self, tenant: &str) -> usize {
        let shard = u64::from(Shard::of(tenant, 16).0);
        let owns = |at: &usize| self.owners(*at).get(&name(*at)).is_some_and(|own| own.contains(&shard));
        let running = || (0..self.members.len()).filter(|at| self.members[*at].usherd.is_some());
        eventually("an owner", || running().find(owns))
    }

    /// The process of a member, which runs.
    pub fn usherd(&self, at: usize) -> &Usherd {
        self.members[at].usherd.as_ref().expect("it runs")
    }

    /// Asks a member to stop, and waits.
    pub fn terminate(&mut self, at: usize) {
        self.members[at].usherd.take().unwrap().terminate();
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self, at: usize) {
        self.members[at].usherd.take().unwrap().kill();
    }
}

/// The name of a member.
pub fn name(at: usize) -> String {
    format!("m{at}")
}

/// A call that a subject places.
pub fn call(client: &mut Client, tenant: &str, session: &str) -> Answer {
    let body = format!(
        "{{\"tenant\":\"{tenant}\",\"subject\":\"{session}\",\"session\":\"{session}\",\"kind\":\"call\",\
         \"direction\":\"outbound\",\"ttl_s\":3600}}"
    );
    client.post("/v1/acquire", &body)
}

/// The end of a call.
pub fn hang_up(client: &mut Client, tenant: &str, session: &str) -> Answer {
    client.post("/v1/release", &format!("{{\"tenant\":\"{tenant}\",\"session\":\"{session}\"}}"))
}
