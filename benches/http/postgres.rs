//! A PostgreSQL of our own, with the same decision as a function, asked by its own pgbench.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::redis::wait_for;
use crate::server::{CLIENT_CORE, SERVER_CORE, has, on_core};

const SCHEMA: &str = r#"
create table tenants (id text primary key, held int not null, quota int not null) with (fillfactor = 50);
create table subjects (tenant text, subject text, claims int not null, primary key (tenant, subject));
create table sessions (tenant text, session text, subject text not null, ends timestamptz not null, primary key (tenant, session));
insert into tenants select 'tenant-' || lpad(n::text, 5, '0'), 0, 64 from generate_series(0, 999) n;

create function acquire(t text, s text, c text, ttl int) returns text language plpgsql as $$
declare known text; h int; n int;
begin
  select subject into known from sessions where tenant = t and session = c;
  if found then
    if known <> s then return 'deny.conflict'; end if;
    update sessions set ends = now() + make_interval(secs => ttl) where tenant = t and session = c;
    return 'allow.same';
  end if;
  insert into subjects values (t, s, 1) on conflict (tenant, subject) do update set claims = subjects.claims + 1 returning claims into n;
  if n = 1 then
    update tenants set held = held + 1 where id = t and held < quota returning held into h;
    if not found then
      delete from subjects where tenant = t and subject = s;
      return 'deny.full';
    end if;
  end if;
  insert into sessions values (t, c, s, now() + make_interval(secs => ttl));
  return case when n = 1 then 'allow.new' else 'allow.held' end;
end $$;

create function release(t text, c text) returns text language plpgsql as $$
declare known text; n int;
begin
  delete from sessions where tenant = t and session = c returning subject into known;
  if not found then return 'released.none'; end if;
  update subjects set claims = claims - 1 where tenant = t and subject = known returning claims into n;
  if n > 0 then return 'released.more'; end if;
  delete from subjects where tenant = t and subject = known;
  update tenants set held = held - 1 where id = t;
  return 'released.last';
end $$;
"#;

/// One call of a client: it comes, and it goes; two transactions.
const SCRIPT: &str = r"
\set call random(1, 16)
\set tenant (:client_id * 16 + :call) % 1000
select acquire('tenant-' || lpad((:tenant)::text, 5, '0'), 'anna.schmidt-' || :client_id || '-' || :call || '@acme.example', 'pbx1-1718000000-' || :client_id || '-' || :call || '.4567', 3600);
select release('tenant-' || lpad((:tenant)::text, 5, '0'), 'pbx1-1718000000-' || :client_id || '-' || :call || '.4567');
";

/// A running server with the schema.
pub(crate) struct Postgres {
    child: Child,
    folder: PathBuf,
}

impl Postgres {
    /// `None`, and why, where it cannot be had.
    pub(crate) fn start() -> Result<Self, String> {
        let bin = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"];
        let bin = bin.iter().find(|bin| has(&format!("{bin}/postgres"))).ok_or("no postgres")?;
        if !has("pgbench") || !has("setpriv") {
            return Err("no pgbench or setpriv".to_owned());
        }
        // It refuses to run as root, and wants a folder of its own.
        let folder = std::env::temp_dir().join(format!("usherd-bench-pg-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|why| why.to_string())?;
        run(Command::new("chown").arg("postgres:postgres").arg(&folder))?;
        let data = folder.join("data");
        run(as_postgres(None, &format!("{bin}/initdb")).args(["--auth=trust", "--no-sync", "-D"]).arg(&data))?;
        let mut command = as_postgres(Some(SERVER_CORE), &format!("{bin}/postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&folder);
        for setting in [
            "listen_addresses=",
            "max_connections=200",
            "fsync=on",
            "synchronous_commit=on",
            "shared_buffers=256MB",
            "max_wal_size=4GB",
        ] {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|why| why.to_string())?;
        let postgres = Postgres { child, folder };
        wait_for(&postgres.folder.join(".s.PGSQL.5432"));
        std::fs::write(postgres.folder.join("schema.sql"), SCHEMA).map_err(|why| why.to_string())?;
        std::fs::write(postgres.folder.join("script.sql"), SCRIPT).map_err(|why| why.to_string())?;
        run(Command::new("psql")
            .args(["-q", "-U", "postgres", "-h"])
            .arg(&postgres.folder)
            .arg("-f")
            .arg(postgres.folder.join("schema.sql")))?;
        Ok(postgres)
    }

    /// Decisions per second of so many clients.
    pub(crate) fn decisions_per_second(&self, clients: u32, seconds: u32) -> f64 {
        let mut command = on_core(Some(CLIENT_CORE), "pgbench");
        command.args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string(), "-T", &seconds.to_string()]);
        command
            .arg("-f")
            .arg(self.folder.join("script.sql"))
            .args(["-U", "postgres", "-h"])
            .arg(&self.folder)
            .arg("postgres");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        2.0 * tps.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // Its fast shutdown.
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Replaced by the program itself, so that its pid is the child's.
fn as_postgres(core: Option<&str>, program: &str) -> Command {
    let mut command = on_core(core, "setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
    command.current_dir(Path::new("/"));
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|why| format!("{command:?}: {why}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
