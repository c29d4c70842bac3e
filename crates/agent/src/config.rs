//! The reader of `agent.toml`: it checks the limits and refuses unknown keys.

use std::path::Path;

use usherd_client::Address;
use usherd_contract::emergency;
use usherd_contract::file::{self, Source, Unread, nearest};
use usherd_contract::names::{check_tenant, check_word};

use super::fault::Fault;
use super::group;
use super::settings::{Addresses, Config, Node, PresenceRule, Socket, mode};

/// Largest file that is read, bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Largest file that it names, bytes.
const NAMED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest secret, bytes.
const SECRET_BYTES_MAX: usize = 4_096;
/// Most addresses of usherd.
const ADDRESSES_MAX: usize = 8;
/// Most presence rules of one source.
const RULES_MAX: usize = 1_000;
/// Longest path of a Unix socket, bytes: the kernel's `sun_path` less its end mark.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A configuration with the secrets that its files hold.
#[derive(Clone)]
pub struct Loaded {
    /// The contents of the file.
    pub config: Config,
    /// Where the daemon is.
    pub address: Address,
    /// Where other daemons of the same cluster are, in the order in which they are tried.
    pub other_addresses: Vec<Address>,
    /// The node's token.
    pub token: Option<String>,
    /// Certificates to trust.
    pub ca_pem: Option<Vec<u8>>,
    /// The manager user's secret; empty without `[asterisk]`.
    pub asterisk_secret: String,
    /// The event socket's password; empty without `[freeswitch]`.
    pub freeswitch_password: String,
}

/// Reads the file and those that it names; relative paths are below its folder.
///
/// # Errors
/// Every fault that can be found, at least one.
pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
    let text = file::read(path, FILE_BYTES_MAX).and_then(file::text).map_err(|why| {
        let (what, help) = match why {
            Unread::TooLarge(_) => ("the file is larger than 1 MiB".to_owned(), "it needs some 100 lines"),
            Unread::Failed(error) => (
                format!("it cannot be read: {error}"),
                "copy config/pbx/agent.toml there, or name the file with --config",
            ),
        };
        vec![Fault::of_file(path, what, help)]
    })?;
    let source = Source::new(path, text);
    let config = parse(&source)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut check = Check { source: &source, faults: Vec::new() };
    check.sections(&config);
    let addresses = check.addresses(&config.daemon.address);
    let token = check.secret(folder, "daemon.token_file", &config.daemon.token_file);
    let ca_pem = check.file(folder, "daemon.ca_file", &config.daemon.ca_file);
    let asterisk = check.secret(folder, "asterisk.secret_file", &config.asterisk.secret_file);
    let freeswitch = check.secret(folder, "freeswitch.password_file", &config.freeswitch.password_file);
    match (addresses, check.faults) {
        (Some((address, other_addresses)), faults) if faults.is_empty() => Ok(Loaded {
            config,
            address,
            other_addresses,
            token,
            ca_pem,
            asterisk_secret: asterisk.unwrap_or_default(),
            freeswitch_password: freeswitch.unwrap_or_default(),
        }),
        (_, faults) => Err(faults),
    }
}

fn parse(source: &Source) -> Result<Config, Vec<Fault>> {
    toml::from_str(source.text()).map_err(|error| {
        let message = error.message().to_owned();
        // `unknown field `adress`, expected one of `address`, …`: the words between backquotes.
        let mut words = message.split('`').skip(1).step_by(2);
        let typed = if message.starts_with("unknown field") { words.next() } else { None };
        let near = typed.and_then(|typed| nearest(typed, words));
        let help = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
        vec![Fault::at(source, error.span().unwrap_or(0..0), message, &help)]
    })
}

/// Faults as they are found.
struct Check<'a> {
    source: &'a Source,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>, help: &str) {
        self.faults.push(Fault::of_key(self.source, path, message, help));
    }

    fn range(&mut self, path: &str, value: u64, range: std::ops::RangeInclusive<u64>) {
        if !range.contains(&value) {
            let help = format!("write {} to {}", range.start(), range.end());
            self.wrong(path, format!("`{path}` is out of range: {value}"), &help);
        }
    }

    fn word(&mut self, path: &str, value: &str, known: &[&str]) {
        if !known.contains(&value) {
            let guess = nearest(value, known.iter().copied()).map(|near| format!("did you mean {near:?}? "));
            let help = format!("{}write one of {}", guess.unwrap_or_default(), known.join(", "));
            self.wrong(path, format!("`{path}` does not know {value:?}"), &help);
        }
    }

    fn sections(&mut self, config: &Config) {
        self.range("daemon.deadline_ms", config.daemon.deadline_ms, 1..=10_000);
        self.word("daemon.on_unreachable", &config.daemon.on_unreachable, &["allow", "deny"]);
        self.node(&config.node);
        self.socket(&config.socket);
        if !config.agi.listen.is_empty() && config.agi_address().is_none() {
            let what = format!("`agi.listen` is no loopback address and port: {:?}", config.agi.listen);
            self.wrong("agi.listen", what, "FastAGI knows no passwords: write it as in \"127.0.0.1:4573\"");
        }
        self.range("spool.bytes_max", config.spool.bytes_max, 4_096..=1 << 32);
        if config.spool.folder.is_empty() {
            self.wrong(
                "spool.folder",
                "`spool.folder` is empty",
                "name the folder that keeps what usherd has not heard",
            );
        }
        self.word("log.format", &config.log.format, &["text", "json"]);
        let (asterisk, freeswitch, kamailio) = (&config.asterisk, &config.freeswitch, &config.kamailio);
        self.source("asterisk", &asterisk.address, asterisk.list_s, asterisk.silence_s);
        self.source("freeswitch", &freeswitch.address, freeswitch.list_s, freeswitch.silence_s);
        self.source("kamailio", &kamailio.address, kamailio.list_s, kamailio.silence_s);
        self.rules("asterisk", &asterisk.presence, &config.node.tenant);
        self.rules("freeswitch", &freeswitch.presence, &config.node.tenant);
        if !kamailio.path.starts_with('/') || !kamailio.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong("kamailio.path", "`kamailio.path` is no path", "write the path of xhttp, as in \"/RPC\"");
        }
        if !asterisk.address.is_empty() && (asterisk.user.is_empty() || asterisk.secret_file.is_empty()) {
            self.wrong("asterisk", "[asterisk] needs `user` and `secret_file`", "name a user of manager.conf");
        }
        if !freeswitch.address.is_empty() && freeswitch.password_file.is_empty() {
            self.wrong("freeswitch", "[freeswitch] needs `password_file`", "as in event_socket.conf.xml");
        }
    }

    fn node(&mut self, node: &Node) {
        let mut faults = Vec::new();
        check_word("node.name", &node.name, &mut faults);
        if !node.tenant.is_empty() {
            check_tenant(&node.tenant, &mut faults);
        }
        for fault in faults {
            let path = if fault.field == "tenant" { "node.tenant" } else { "node.name" };
            self.wrong(path, format!("`{path}` {}", fault.what), "");
        }
        if let Some(grace_s) = node.presence_grace_s {
            self.range("node.presence_grace_s", grace_s.into(), 0..=86_400);
        }
        if node.emergency_numbers.len() > 1_000 {
            self.wrong("node.emergency_numbers", "there are more than 1,000 emergency numbers", "");
        }
        for number in node.emergency_numbers.iter().filter(|number| emergency::plain_number(number).is_none()) {
            let what = format!("`node.emergency_numbers` holds what is not a number: {number:?}");
            self.wrong("node.emergency_numbers", what, "write the digits, as dialled without the trunk prefix");
        }
        if !node.trunk_prefix.is_empty() && emergency::plain_prefix(&node.trunk_prefix).is_none() {
            let what = format!("`node.trunk_prefix` is not a prefix: {:?}", node.trunk_prefix);
            self.wrong("node.trunk_prefix", what, "write the digits that get an outside line, or \"\" for none");
        }
    }

    fn socket(&mut self, socket: &Socket) {
        self.range("socket.connections_max", socket.connections_max as u64, 1..=4_096);
        self.range("socket.unwatched_ttl_s", socket.unwatched_ttl_s.into(), 1..=86_400);
        if socket.path.len() > SOCKET_PATH_BYTES_MAX || !(socket.path.is_empty() || socket.path.starts_with('/')) {
            self.wrong("socket.path", "`socket.path` is no whole path of at most 107 bytes", "begin it with /run");
        }
        if mode(&socket.mode).is_none() {
            self.wrong(
                "socket.mode",
                format!("`socket.mode` is no mode: {:?}", socket.mode),
                "write it as in \"0660\"",
            );
        }
        if !socket.group.is_empty()
            && !socket.path.is_empty()
            && let Err(why) = group::number_of(&socket.group)
        {
            let help = "make it with `groupadd --system`, name the group of the phone system, or write its number";
            self.wrong("socket.group", format!("`socket.group` is not known: {why}"), help);
        }
    }

    fn source(&mut self, section: &str, address: &str, list_s: u64, silence_s: u64) {
        self.range(&format!("{section}.list_s"), list_s, 1..=3_600);
        self.range(&format!("{section}.silence_s"), silence_s, 2..=3_600);
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if !address.is_empty() && port.is_none_or(|port| port == 0) {
            let path = format!("{section}.address");
            self.wrong(&path, format!("`{path}` is no host:port: {address:?}"), "write it as in \"127.0.0.1:5038\"");
        }
    }

    fn rules(&mut self, section: &str, rules: &[PresenceRule], tenant: &str) {
        if rules.len() > RULES_MAX {
            self.wrong(
                &format!("{section}.presence"),
                "there are more than 1,000 rules",
                "one * stands for many devices",
            );
        }
        for (at, rule) in rules.iter().enumerate() {
            let path = |key: &str| format!("{section}.presence[{at}].{key}");
            self.word(&path("kind"), &rule.kind, &["desktop", "mobile"]);
            if rule.device.is_empty() || rule.device.matches('*').count() > 1 {
                self.wrong(&path("device"), "a device has exactly one name, with at most one *", "");
            }
            if rule.subject.is_empty() || (rule.subject.contains('*') && !rule.device.contains('*')) {
                let help = "its * is what the * of the device stands for";
                self.wrong(&path("subject"), "a rule names whose device it is", help);
            }
            let mut faults = Vec::new();
            check_tenant(if rule.tenant.is_empty() { tenant } else { &rule.tenant }, &mut faults);
            if !faults.is_empty() {
                self.wrong(&path("tenant"), "a rule needs a tenant: 1-64 of a-z 0-9 . _ -", "or set it in [node]");
            }
        }
    }

    /// The first address and the others, where all of them can be read.
    fn addresses(&mut self, texts: &Addresses) -> Option<(Address, Vec<Address>)> {
        const PATH: &str = "daemon.address";
        let texts = match texts {
            Addresses::One(text) => return Some((self.address(PATH, text)?, Vec::new())),
            Addresses::Several(texts) => texts,
        };
        if !(1..=ADDRESSES_MAX).contains(&texts.len()) {
            self.wrong(
                PATH,
                format!("`{PATH}` has {} addresses", texts.len()),
                "write 1 to 8, of daemons of one cluster",
            );
        }
        let mut addresses = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let path = format!("{PATH}[{at}]");
            let Some(address) = self.address(&path, text) else { continue };
            if addresses.contains(&address) {
                self.wrong(&path, format!("`{PATH}` has {address} twice"), "name each daemon once");
            }
            addresses.push(address);
        }
        let mut addresses = addresses.into_iter();
        Some((addresses.next()?, addresses.collect()))
    }

    fn address(&mut self, path: &str, text: &str) -> Option<Address> {
        text.parse().map_err(|fault| self.wrong(path, format!("{fault}"), "")).ok()
    }

    fn file(&mut self, folder: &Path, path: &str, name: &str) -> Option<Vec<u8>> {
        if name.is_empty() {
            return None;
        }
        let read = file::read(&folder.join(name), NAMED_BYTES_MAX);
        read.map_err(|why| {
            self.wrong(
                path,
                format!("{name} cannot be read: {}", why.reason()),
                "is it readable for the agent's user?",
            );
        })
        .ok()
    }

    /// The first line of a file, which is never shown.
    fn secret(&mut self, folder: &Path, path: &str, name: &str) -> Option<String> {
        let bytes = self.file(folder, path, name)?;
        let line = std::str::from_utf8(&bytes).ok().and_then(file::secret);
        match line.filter(|line| line.len() <= SECRET_BYTES_MAX && !line.contains(char::is_control)) {
            Some(line) => Some(line.to_owned()),
            None => {
                self.wrong(path, format!("{name} holds no secret"), "write it on the first line");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let faults = load(&path).err().unwrap_or_default();
        faults.iter().map(|fault| format!("{}:{} {} {}", fault.line, fault.column, fault.message, fault.help)).collect()
    }

    #[test]
    fn the_smallest_configuration_names_the_node() {
        assert_eq!(faults("[node]\nname = \"pbx-1\"\n"), [""; 0]);
        assert_eq!(faults("")[0], "1:1 `node.name` must be 1-64 bytes of printable ASCII without blanks ");
    }

    #[test]
    fn the_daemons_are_tried_in_the_order_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        for (address, expected) in [
            (r#""unix:/a""#, &["unix:/a"][..]),
            (r#"["unix:/a"]"#, &["unix:/a"]),
            (r#"["unix:/b", "http://b:1", "unix:/a"]"#, &["unix:/b", "http://b:1", "unix:/a"]),
        ] {
            std::fs::write(&path, format!("[node]\nname = \"n\"\n[daemon]\naddress = {address}\n")).unwrap();
            let loaded = load(&path).ok().unwrap();
            let read: Vec<String> =
                std::iter::once(&loaded.address).chain(&loaded.other_addresses).map(Address::to_string).collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn every_fault_says_where_and_how_to_fix_it() {
        const NODE: &str = "[node]\nname = \"n\"\n";
        for (text, expected) in [
            ("[daemon]\nadress = \"x\"", "4:1 unknown field `adress`"),
            ("[daemon]\nadress = \"x\"", "did you mean `address`?"),
            ("[deamon]", "did you mean `daemon`?"),
            ("[daemon]\naddress = \"ftp://x\"", "4:11 \"ftp://x\" is not where a daemon listens"),
            ("[daemon]\naddress = [\"unix:/a\", \"b\"]", "4:23 \"b\" is not where a daemon listens"),
            ("[daemon]\naddress = [\"unix:/a\", \"unix:///a\"]", "4:23 `daemon.address` has unix:/a twice"),
            ("[daemon]\naddress = []", "4:11 `daemon.address` has 0 addresses write 1 to 8"),
            ("[daemon]\naddress = 5", "4:11 expected an address of usherd, or a list of them"),
            ("[daemon]\ndeadline_ms = 0", "4:15 `daemon.deadline_ms` is out of range: 0 write 1 to 10000"),
            ("[daemon]\ndeadline_ms = \"50\"", "4:15 invalid type: string"),
            ("[daemon]\non_unreachable = \"alow\"", "did you mean \"allow\"?"),
            ("[daemon]\ntoken_file = \"nowhere\"", "4:14 nowhere cannot be read"),
            ("[socket]\nmode = \"0990\"", "`socket.mode` is no mode"),
            ("[socket]\ngroup = \"no such group\"", "4:9 `socket.group` is not known: /etc/group has no group"),
            ("[socket]\ngroup = \"no such group\"", "groupadd"),
            ("[socket]\npath = \"agent.sock\"", "`socket.path` is no whole path"),
            ("[agi]\nlisten = \"0.0.0.0:4573\"", "`agi.listen` is no loopback address"),
            ("[asterisk]\naddress = \"localhost\"", "`asterisk.address` is no host:port"),
            ("[asterisk]\naddress = \"localhost:5038\"", "needs `user` and `secret_file`"),
            ("presence_grace_s = 86401", "3:20 `node.presence_grace_s` is out of range"),
            ("[kamailio]\nlist_s = 0", "`kamailio.list_s` is out of range"),
            (
                "[[asterisk.presence]]\ndevice = \"*\"\nsubject = \"*\"\nkind = \"desk\"\ntenant = \"a\"",
                "6:8 `asterisk.presence[0].kind`",
            ),
            ("[[asterisk.presence]]\ndevice = \"*\"\nsubject = \"*\"\nkind = \"desktop\"", "a rule needs a tenant"),
            (
                "[[freeswitch.presence]]\ndevice = \"**\"\nsubject = \"*\"\nkind = \"mobile\"\ntenant = \"a\"",
                "at most one *",
            ),
            ("[spool\n", "3:"),
        ] {
            let found = faults(&format!("{NODE}{text}\n"));
            assert!(found.iter().any(|fault| fault.contains(expected)), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_secret_is_the_first_line_of_its_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "[node]\nname = \"n\"\n[daemon]\ntoken_file = \"token\"\n").unwrap();
        std::fs::write(dir.path().join("token"), "\n ush_node_1 \n").unwrap();
        assert_eq!(load(&path).ok().unwrap().token.as_deref(), Some("ush_node_1"));
        std::fs::write(dir.path().join("token"), "se\u{7}cret\n").unwrap();
        let shown = load(&path).err().unwrap()[0].to_string();
        assert!(
            shown.contains("holds no secret") && !shown.contains("cret\u{7}") && !shown.contains("se\u{7}"),
            "{shown}"
        );
    }
}
