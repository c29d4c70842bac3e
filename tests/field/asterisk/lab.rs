//! One Asterisk with a shipped dial plan, the daemon it asks, phones and a trunk; each test its own, on free ports.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use usherd_testkit::kamailio::lab::{free_port, own_address};
use usherd_testkit::kamailio::sip::{Dialog, Phone, connect};
use usherd_testkit::place::{Place, newer_root, program};
use usherd_testkit::process::{Site, Usherd};
use usherd_testkit::wait::eventually;

const PHONES: &str = "127.0.0.1";
const TRUNK: &str = "127.0.0.2";
/// A phone whose endpoint is told by its address, so that it may call itself anything.
const LIAR: &str = "127.0.0.3";

/// How the dial plan asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Curl,
    Agi,
}

/// Both, one after the other.
pub(super) const PLANS: [Plan; 2] = [Plan::Curl, Plan::Agi];

impl Plan {
    fn file(self) -> &'static str {
        match self {
            Plan::Curl => "extensions_usherd.conf",
            Plan::Agi => "extensions_usherd_agi.conf",
        }
    }

    /// The longest that a caller may wait where nobody answers: the time-out of the shipped file, and a second for busy
    /// cores. `AGI()` has none, and is at its end at once where nobody listens.
    pub(super) fn waits_max(self) -> Duration {
        let file = std::fs::read_to_string(recipe(self)).unwrap();
        let asking = file.split("[usherd-ask]").nth(1).unwrap().split("\n[usherd-").next().unwrap();
        let set = asking.split("CURLOPT(httptimeout)=").nth(1).map(|rest| rest.split(')').next().unwrap());
        assert_eq!(set.is_some(), self == Plan::Curl);
        Duration::from_secs_f64(set.map_or(0.0, |seconds| seconds.parse().unwrap())) + Duration::from_secs(1)
    }
}

/// Modules that the recipe needs, and those of a telephone system.
const MODULES: &str = "res_speech res_pjsip_pubsub res_http_websocket res_pjproject res_sorcery_config res_sorcery_memory \
    res_sorcery_astdb res_pjsip res_pjsip_session res_pjsip_endpoint_identifier_ip res_pjsip_endpoint_identifier_user \
    res_pjsip_sdp_rtp res_pjsip_refer res_pjsip_rfc3326 res_pjsip_caller_id res_pjsip_diversion res_pjsip_dtmf_info \
    chan_pjsip res_parking res_rtp_asterisk codec_ulaw codec_gsm format_pcm format_gsm app_dial app_originate app_directed_pickup app_stack app_playback app_playtones app_echo app_verbose \
    app_exec func_strings func_uri func_logic func_callerid func_channel func_dialplan func_cut func_global func_db func_curl \
    res_curl res_agi pbx_config pbx_spool bridge_simple bridge_native_rtp bridge_softmix bridge_builtin_features \
    bridge_holding res_timing_timerfd res_manager_devicestate func_devstate";

/// The example in the heading of the dial plan: what an admin copies.
fn example() -> String {
    let file = std::fs::read_to_string(recipe(Plan::Curl)).unwrap();
    let heading = file.split("\n\n").next().unwrap().to_owned();
    let lines: Vec<&str> = heading.lines().filter_map(|line| line.strip_prefix(";   ")).collect();
    assert!(lines.len() > 8, "{lines:?}");
    lines.join("\n")
}

fn recipe(plan: Plan) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx/asterisk").join(plan.file())
}

/// Everything a scenario needs.
pub(super) struct Lab {
    pub(super) site: Site,
    pub(super) usherd: Option<Usherd>,
    asterisk: Option<Child>,
    place: Place,
    pub(super) plan: Plan,
    pub(super) sip_port: u16,
    pub(super) trunk_port: u16,
    pub(super) manager: SocketAddr,
    /// Where the dial plan finds scripts: usherd's listener, unless an agent has taken it.
    pub(super) agi: SocketAddr,
    users: Vec<(String, u16)>,
    /// The endpoint of a phone that is told by its address.
    pub(super) liar: &'static str,
    /// Times of the dial plan that a test cannot wait for: what stands there, and what shall.
    pub(super) hurried: Vec<(&'static str, &'static str)>,
}

impl Lab {
    /// With this many seats, and phones 20 to 29.
    pub(super) fn new(plan: Plan, seats: u32) -> Self {
        Self::with(plan, seats, "", "")
    }

    /// With further lines in the dial plan, and a policy of the tenant.
    pub(super) fn with(plan: Plan, seats: u32, extensions: &str, policy: &str) -> Self {
        let mut lab = Self::idle(plan, seats, policy, true);
        lab.configure(extensions, "");
        lab.start_asterisk();
        lab
    }

    /// Without an Asterisk yet; usherd may leave the port of scripts to somebody else.
    pub(super) fn idle(plan: Plan, seats: u32, policy: &str, answers_scripts: bool) -> Self {
        let [http, agi, manager] = [(); 3].map(|()| own_address());
        let scripts = if answers_scripts { format!("[agi]\nlisten = \"{agi}\"\n") } else { String::new() };
        let tenant = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {seats}\n{policy}");
        let site =
            Site::new(&format!("{scripts}[nodes]\nlease_s = 3\nheartbeat_s = 1\ngrace_s = 3\n"), &[("acme", &tenant)]);
        site.listen(http);
        let usherd = site.start();
        newer_root();
        let place = Place::made();
        for folder in ["etc", "run", "spool/outgoing", "log", "db", "lib"] {
            std::fs::create_dir_all(place.path(folder)).unwrap();
        }
        let users = (20..30).map(|user| (user.to_string(), free_port(PHONES))).collect();
        Lab {
            usherd: Some(usherd),
            asterisk: None,
            plan,
            sip_port: free_port(PHONES),
            trunk_port: free_port(TRUNK),
            manager,
            agi,
            users,
            liar: "liar",
            hurried: Vec::new(),
            site,
            place,
        }
    }

    /// Further users without a phone that rings, for many calls at once.
    pub(super) fn add_users(&mut self, count: u32) {
        let port = free_port(PHONES);
        self.users.extend((0..count).map(|user| (format!("user{user}"), port)));
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.path("etc").join(name), text).unwrap();
    }

    /// Writes its files: the shipped dial plan with this lab's addresses, the example of its heading, and these lines.
    pub(super) fn configure(&self, extensions: &str, globals: &str) {
        let inside = |name: &str| self.place.inside(name).display().to_string();
        let mut directories = "[directories]\nastmoddir => /usr/lib/x86_64-linux-gnu/asterisk/modules\n".to_owned();
        directories += "astdatadir => /usr/share/asterisk\n";
        for (key, folder) in [
            ("astetcdir", "etc"),
            ("astvarlibdir", "lib"),
            ("astdbdir", "db"),
            ("astkeydir", "lib"),
            ("astagidir", "lib"),
            ("astspooldir", "spool"),
            ("astrundir", "run"),
            ("astlogdir", "log"),
        ] {
            directories += &format!("{key} => {}\n", inside(folder));
        }
        self.write("asterisk.conf", &format!("{directories}[options]\nverbose = 5\n"));
        let modules: String = MODULES.split_whitespace().map(|module| format!("load => {module}.so\n")).collect();
        self.write("modules.conf", &format!("[modules]\nautoload=no\n{modules}"));
        self.write("logger.conf", "[logfiles]\nmessages => notice,warning,error,verbose\n");
        self.write("rtp.conf", "[general]\nrtpstart=20000\nrtpend=29999\n");
        self.write(
            "res_parking.conf",
            "[general]\n[default]\nparkext => 700\nparkpos => 701-709\ncontext => parkedcalls\n",
        );
        self.write("features.conf", "[general]\n[featuremap]\natxfer => *2\n");
        self.write(
            "manager.conf",
            &format!(
                "[general]\nenabled=yes\nbindaddr={}\nport={}\n\
                 channelvars=USHERD_TENANT,USHERD_SUBJECT,USHERD_SESSION,USHERD_CODE\n\
                 [usherd]\nsecret=manager-secret\nread=call,system\nwrite=reporting\n",
                self.manager.ip(),
                self.manager.port()
            ),
        );
        self.write("pjsip.conf", &self.pjsip());
        let http = format!("{}", self.address());
        let dial_plan = std::fs::read_to_string(recipe(self.plan)).unwrap();
        let mut dial_plan = dial_plan.replace("127.0.0.1:7788", &http).replace("127.0.0.1:4573", &self.agi.to_string());
        for (shipped, hurried) in &self.hurried {
            assert!(dial_plan.contains(shipped), "{shipped}");
            dial_plan = dial_plan.replace(shipped, hurried);
        }
        self.write(self.plan.file(), &dial_plan);
        let own = example();
        self.write(
            "extensions.conf",
            &format!("[globals]\n{globals}\n#include {}\n{own}\n{extensions}\n", self.plan.file()),
        );
    }

    /// Each endpoint has its address for sound: Asterisk would look up the name of the machine for one, in the thread that
    /// takes the calls, for five seconds where nobody knows it.
    fn pjsip(&self) -> String {
        let endpoint = |name: &str, context: &str, contact: &str| {
            format!(
                "[{name}]\ntype=endpoint\ncontext={context}\ndisallow=all\nallow=ulaw\ndirect_media=no\ndtmf_mode=info\n\
                 media_address={PHONES}\nbind_rtp_to_media_address=yes\n\
                 aors={name}\n[{name}]\ntype=aor\ncontact={contact}\n"
            )
        };
        let mut text = format!(
            "[udp]\ntype=transport\nprotocol=udp\nbind={PHONES}:{}\n[global]\ntype=global\n\
             endpoint_identifier_order=ip,username\n",
            self.sip_port
        );
        text += &endpoint("trunk", "from-trunk", &format!("sip:{TRUNK}:{}", self.trunk_port));
        text += &endpoint(self.liar, "from-phones", &format!("sip:{LIAR}:9"));
        for (name, ip) in [("trunk", TRUNK), (self.liar, LIAR)] {
            text += &format!("[{name}-id]\ntype=identify\nendpoint={name}\nmatch={ip}\n");
        }
        for (user, port) in &self.users {
            text += &endpoint(user, "from-phones", &format!("sip:{user}@{PHONES}:{port}"));
        }
        text
    }

    /// Starts it, and waits until it takes calls.
    pub(super) fn start_asterisk(&mut self) {
        let mut command = program("asterisk");
        command.arg("-f").arg("-C").arg(self.place.inside("etc/asterisk.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.asterisk = Some(command.spawn().unwrap());
        eventually("Asterisk to be up", || {
            let ended = self.asterisk.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            self.cli("core waitfullybooted").contains("fully booted").then_some(())
        });
    }

    /// `kill -9`.
    pub(super) fn kill_asterisk(&mut self) {
        let mut asterisk = self.asterisk.take().unwrap();
        asterisk.kill().unwrap();
        asterisk.wait().unwrap();
    }

    /// Asterisk's answer to a command.
    pub(super) fn cli(&self, command: &str) -> String {
        let mut cli = program("asterisk");
        cli.arg("-C").arg(self.place.inside("etc/asterisk.conf")).args(["-rx", command]);
        String::from_utf8_lossy(&cli.output().unwrap().stdout).into_owned()
    }

    /// The command line by which a script beside this Asterisk reaches it.
    pub(super) fn cli_command(&self) -> String {
        let conf = self.place.inside("etc/asterisk.conf");
        format!("chroot {} /usr/sbin/asterisk -C {}", newer_root().display(), conf.display())
    }

    /// Puts a call file into its spool, whole at once.
    pub(super) fn call_file(&self, text: &str) {
        let unfinished = self.place.path("spool/call");
        std::fs::write(&unfinished, text).unwrap();
        std::fs::rename(unfinished, self.place.path("spool/outgoing/call")).unwrap();
    }

    pub(super) fn log(&self) -> String {
        let bytes = std::fs::read(self.place.path("log/messages")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many calls went out because nobody answered in time.
    pub(super) fn unasked(&self) -> u64 {
        self.log().matches("\"1?Set(USHERD_CODE=allow.unasked)\"").count() as u64
    }

    /// Calls in the keeper's list: that live, or whose end usherd has not taken yet.
    pub(super) fn kept(&self) -> usize {
        self.cli("database show usherd").matches("session=").count()
    }

    pub(super) fn usherd(&self) -> &Usherd {
        self.usherd.as_ref().unwrap()
    }

    fn address(&self) -> std::net::SocketAddr {
        self.usherd().address()
    }

    /// How many seats are held now.
    pub(super) fn held(&self) -> u64 {
        self.usherd().client().held("acme")
    }

    /// The live sessions of the tenant.
    pub(super) fn sessions(&self) -> Vec<Value> {
        self.usherd().client().list("/v1/tenants/acme/sessions", "sessions")
    }

    pub(super) fn until_held(&self, seats: u64) {
        eventually(&format!("{seats} seats to be held"), || (self.held() == seats).then_some(()));
    }

    /// A figure of `/metrics`, summed over all its labels that contain this text.
    pub(super) fn metric(&self, name: &str, labels: &str) -> f64 {
        self.usherd().client().sum(name, labels)
    }

    /// Questions that usherd answered with this code, all of the phone system.
    pub(super) fn decided(&self, code: &str) -> f64 {
        self.metric("usherd_decisions_total", &format!("code=\"{code}\""))
    }

    /// The phone of a user.
    pub(super) fn phone(&self, user: &str) -> Phone {
        let port = self.users.iter().find(|(name, _)| name == user).unwrap().1;
        Phone::with_media(PHONES, port, self.sip_port)
    }

    /// A phone that may call itself anything.
    pub(super) fn liar(&self) -> Phone {
        Phone::with_media(LIAR, free_port(LIAR), self.sip_port)
    }

    pub(super) fn trunk(&self) -> Phone {
        Phone::with_media(TRUNK, self.trunk_port, self.sip_port)
    }

    /// Somebody calls, is answered, and both talk: the caller's side, and the callee's.
    pub(super) fn call(
        &self,
        caller: &mut Phone,
        from: &str,
        number: &str,
        id: &str,
        callee: &mut Phone,
    ) -> (Dialog, Dialog) {
        let call = caller.invite(from, number, id, "");
        let invite = callee.receive("INVITE ", None);
        self.talk(caller, call, callee, &invite)
    }

    /// The callee takes the call, and both talk: then a transfer is one.
    pub(super) fn talk(
        &self,
        caller: &mut Phone,
        call: Dialog,
        callee: &mut Phone,
        invite: &usherd_testkit::kamailio::sip::Message,
    ) -> (Dialog, Dialog) {
        let pairs = self.bridged();
        let sides = connect(caller, call, callee, invite, "t");
        eventually("both to be bridged", || (self.bridged() > pairs).then_some(()));
        sides
    }

    /// The next call that reaches the trunk is taken, and talks until the trunk ends it.
    pub(super) fn take(&self, trunk: &mut Phone) -> Dialog {
        let invite = trunk.receive("INVITE ", None);
        let tag = format!("t{}", invite.header("Call-ID"));
        trunk.answer(&invite, "200 OK", &tag, &format!("Contact: <sip:trunk@{TRUNK}:{}>\r\n", self.trunk_port));
        trunk.receive("ACK ", Some(invite.header("Call-ID")));
        invite.called(&tag)
    }

    fn bridged(&self) -> usize {
        let shown = self.cli("bridge show all");
        let pair =
            |line: &&str| line.split_whitespace().zip(line.split_whitespace().skip(1)).any(|two| two == ("2", "basic"));
        shown.lines().filter(pair).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let told: Vec<&str> = log.lines().filter(|line| line.contains("[C-") || line.contains("anager")).collect();
            let _ = writeln!(std::io::stderr(), "{}", told[told.len().saturating_sub(80)..].join("\n"));
        }
        if let Some(asterisk) = &mut self.asterisk {
            let _ = asterisk.kill();
            let _ = asterisk.wait();
        }
    }
}

/// One side sends the other to another number, or to a whole address.
pub(super) fn refer(by: &mut Phone, own: &mut Dialog, to: &str) {
    let to = if to.contains('@') { to.to_owned() } else { format!("{to}@acme.example") };
    by.within(own, "REFER", &format!("Refer-To: <sip:{to}>\r\n"));
    by.receive(" 202 ", Some(&own.call_id));
}
