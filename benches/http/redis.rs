//! A Redis of our own, without persistence, with the same decision as a Lua script.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::client::{Connection, Framing, Place};
use crate::requests::resp;
use crate::server::{CLIENT_CORE, LARGE, SERVER_CORE, folder, has, on_core};

/// Known claim, conflict, seat count, claim of the subject: what `/v1/acquire` does at least.
const ACQUIRE: &str = r#"
local known = redis.call('GET', KEYS[1])
if known then
  if known ~= ARGV[1] then return redis.status_reply('deny.conflict') end
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return redis.status_reply('allow.same')
end
local seats = redis.call('HMGET', KEYS[3], 'held', 'quota')
local held, quota = tonumber(seats[1] or '0'), tonumber(seats[2] or '0')
local claims = KEYS[2] .. ARGV[1]
local code = 'allow.held'
if not redis.call('GET', claims) then
  if held >= quota then return redis.status_reply('deny.full ' .. held .. ' ' .. quota) end
  held = redis.call('HINCRBY', KEYS[3], 'held', 1)
  code = 'allow.new'
end
redis.call('INCR', claims)
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return redis.status_reply(code .. ' ' .. held .. ' ' .. quota)
"#;

const RELEASE: &str = r#"
local subject = redis.call('GET', KEYS[1])
if not subject then return redis.status_reply('released.none') end
redis.call('DEL', KEYS[1])
local claims = KEYS[2] .. subject
if redis.call('DECR', claims) > 0 then return redis.status_reply('released.more') end
redis.call('DEL', claims)
local held = redis.call('HINCRBY', KEYS[3], 'held', -1)
return redis.status_reply('released.last ' .. held)
"#;

/// A running Redis with both scripts and the seats of the tenants.
pub(crate) struct Redis {
    child: Child,
    pub tcp: Place,
    pub unix: PathBuf,
    pub acquire: String,
    pub release: String,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// `None` where there is no `redis-server`.
    pub(crate) fn start() -> Option<Self> {
        if !has("redis-server") {
            return None;
        }
        let folder = folder();
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).ok()?;
        let unix = folder.path().join("redis.sock");
        let mut command = on_core(Some(SERVER_CORE), "redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--unixsocket"]).arg(&unix);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]).arg(folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        wait_for(&unix);
        let mut redis = Redis {
            child,
            tcp: Place::Tcp(address),
            unix,
            acquire: String::new(),
            release: String::new(),
            _folder: folder,
        };
        redis.acquire = redis.load(ACQUIRE);
        redis.release = redis.load(RELEASE);
        for tenant in 0..1_000 {
            redis.say(&["HSET", &format!("t:tenant-{tenant:05}"), "held", "0", "quota", "64"]);
        }
        for tenant in 0..LARGE {
            redis.say(&["HSET", &format!("t:large-{tenant}"), "held", "0", "quota", "1000000"]);
        }
        Some(redis)
    }

    fn say(&self, words: &[&str]) -> String {
        let lines = if words[0] == "SCRIPT" { 2 } else { 1 };
        let mut connection = Connection::new(&Place::unix(&self.unix), vec![resp(words)]);
        connection.send();
        String::from_utf8_lossy(connection.receive(Framing::Lines(lines))).into_owned()
    }

    fn load(&self, script: &str) -> String {
        let answer = self.say(&["SCRIPT", "LOAD", script]);
        answer.lines().nth(1).unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// CPU nanoseconds of the process so far; the kernel counts them in steps of 10 ms.
    pub(crate) fn cpu_ns(&self) -> u64 {
        cpu_ns_of(self.child.id())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `redis-benchmark` with 50 connections on the core of the clients; what it did in a second.
pub(crate) fn benchmark(place: &[String], requests: u64, pipelined: u64, words: &[&str]) -> f64 {
    let mut command = on_core(Some(CLIENT_CORE), "redis-benchmark");
    command.args(place).args(["-n", &requests.to_string(), "-c", "50", "-P", &pipelined.to_string()]);
    let output = command.args(["-r", "1000000000", "--csv", "-q"]).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or("");
    // The name of the test is quoted, and holds no comma.
    let rate = last.split(',').nth(1).and_then(|field| field.trim_matches('"').parse().ok());
    rate.unwrap_or_else(|| panic!("redis-benchmark said {text:?} {}", String::from_utf8_lossy(&output.stderr)))
}

/// User and system time of a process.
pub(crate) fn cpu_ns_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or("");
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * 10_000_000
}

/// Until a socket takes connections, at most ten seconds.
#[allow(clippy::disallowed_methods, reason = "no event says that another program listens; bounded to ten seconds")]
pub(crate) fn wait_for(socket: &Path) {
    for _ in 0..1_000 {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} does not come", socket.display());
}
