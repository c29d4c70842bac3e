//! Authentication and authorization: tokens, client certificates, the Unix socket; default deny (I29).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use super::failures::FailureLimit;
use super::failures::Failures;
use super::host_guard::{foreign_name, host_fault, is_of_a_page, is_of_another_page, is_plain, is_proxied};
use crate::daemon::edge::address::address_key;
use crate::daemon::edge::peer::{Peer, PeerAddress};
use crate::daemon::http::problem::{Problem, ProblemKind};

/// Valid tokens of one credential at once: the present one and the next (rotation).
pub const TOKENS_PER_CREDENTIAL_MAX: usize = 2;
/// Longest `Authorization` value that is looked at, bytes.
const AUTHORIZATION_BYTES_MAX: usize = 256;

/// The role of a credential (RELIABILITY 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks and gives back, for its tenants; its own node calls.
    Node,
    /// Reads metrics.
    Scrape,
    /// Reads.
    Viewer,
    /// Everything.
    Admin,
    /// Another daemon of the cluster, or the source of subscriptions.
    Sync,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] = &[Role::Node, Role::Scrape, Role::Viewer, Role::Admin, Role::Sync];

    /// The word in tokens, configuration and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Scrape => "scrape",
            Role::Viewer => "viewer",
            Role::Admin => "admin",
            Role::Sync => "sync",
        }
    }

    /// The role of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Role::ALL.iter().copied().find(|role| role.as_str() == word)
    }

    const fn may(self, class: RouteClass) -> bool {
        match class {
            RouteClass::Open => true,
            RouteClass::Decide | RouteClass::Nodes => matches!(self, Role::Node | Role::Admin),
            RouteClass::Explain => matches!(self, Role::Node | Role::Viewer | Role::Admin),
            RouteClass::Read => matches!(self, Role::Viewer | Role::Admin),
            RouteClass::Metrics => matches!(self, Role::Scrape | Role::Viewer | Role::Admin),
            RouteClass::Admin => matches!(self, Role::Admin),
            RouteClass::Sync => matches!(self, Role::Sync | Role::Admin),
        }
    }
}

/// The class of a route, as far as permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteClass {
    /// Health, and what is public: `/livez`, `/readyz`, `/openapi.json`.
    Open,
    /// Acquire, release, batch.
    Decide,
    /// Why an acquire would be answered as it would be: it changes nothing.
    Explain,
    /// Hello, heartbeat, inventory, goodbye.
    Nodes,
    /// Lists, the overview, events.
    Read,
    /// `/metrics` and what describes its targets.
    Metrics,
    /// Reload, ending sessions, changing subscriptions.
    Admin,
    /// Requests of other daemons.
    Sync,
}

impl RouteClass {
    /// True if machines ask it, which know the daemon by any name of a hosts file: PBX nodes, that must not lose a
    /// call, and Prometheus. All else a browser may ask, and it matters by which name.
    pub(crate) const fn is_of_machines(self) -> bool {
        matches!(self, RouteClass::Open | RouteClass::Decide | RouteClass::Nodes | RouteClass::Metrics)
    }
}

/// Somebody who may do something; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The name of the caller for logs and the audit trail.
    pub id: String,
    /// Its role.
    pub role: Role,
    /// The tenants it is for; empty is all.
    pub tenants: Vec<String>,
    /// The nodes it may speak as; empty is all where `tenants` is empty too, else none: a hello ends the
    /// node's calls of every tenant.
    pub nodes: Vec<String>,
    /// True if a viewer sees the names of subjects; others read pseudonyms. An admin always does.
    pub names: bool,
}

impl Access {
    /// Somebody for all tenants.
    pub fn new(id: impl Into<String>, role: Role) -> Self {
        Access { id: id.into(), role, tenants: Vec::new(), nodes: Vec::new(), names: false }
    }

    /// True if it may use a route for a tenant. `None` is a route that is not about one tenant: a list, which
    /// then shows what [`Self::sees`] lets through, or a node call, which [`Self::sees_node`] decides.
    /// A change of the whole daemon needs all tenants.
    pub fn may(&self, class: RouteClass, tenant: Option<&str>) -> bool {
        self.role.may(class)
            && match tenant {
                Some(tenant) => self.sees(tenant),
                None => {
                    self.tenants.is_empty()
                        || !matches!(class, RouteClass::Admin | RouteClass::Sync | RouteClass::Metrics)
                }
            }
    }

    /// True if anything of this tenant may be shown to it.
    pub fn sees(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|own| own == tenant)
    }

    /// True if it sees who holds a seat, and not only that somebody does. A node knows its people.
    pub fn sees_names(&self) -> bool {
        self.role != Role::Viewer || self.names
    }

    /// True if it may speak as this node, as far as its role speaks as any, and be shown it: a name tells whose phone
    /// system it is.
    pub fn sees_node(&self, node: &str) -> bool {
        if self.nodes.is_empty() { self.tenants.is_empty() } else { self.nodes.iter().any(|own| own == node) }
    }

    /// [`Self::sees_node`] as an answer, for a message that names a node: whoever speaks as one renews its lease.
    ///
    /// # Errors
    /// 401: it may not speak as this node.
    pub fn need_node(&self, node: Option<&str>) -> Result<(), Problem> {
        match node {
            Some(node) if !self.sees_node(node) => {
                let detail = format!("{} may not speak as node {node}", self.id);
                Err(Problem::new(ProblemKind::NotPermitted, detail))
            }
            _ => Ok(()),
        }
    }

    /// [`Self::may`] as an answer.
    ///
    /// # Errors
    /// 401: it may not. Never 403, which is a decision.
    pub fn need(&self, class: RouteClass, tenant: Option<&str>) -> Result<(), Problem> {
        if self.may(class, tenant) {
            return Ok(());
        }
        let detail = if self.role.may(class) {
            format!("{} is not for this tenant", self.id)
        } else {
            format!("{} has the role {}, which may not do this", self.id, self.role.as_str())
        };
        Err(Problem::new(ProblemKind::NotPermitted, detail))
    }
}

/// The SHA-256 of a token; not shown in debug output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl TokenHash {
    /// Hashes a token.
    pub fn of(token: &str) -> Self {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }

    /// A hash as the configuration holds it.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        TokenHash(hash)
    }

    /// Reads 64 hex digits, as they stand in the configuration.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut hash = [0_u8; 32];
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
        }
        Some(TokenHash(hash))
    }

    /// 64 hex digits, for the configuration.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The role that the shape of a token names: `ush_<role>_` and 43 characters of base64url or 64 hex digits.
pub fn token_role(token: &str) -> Option<Role> {
    let (role, secret) = token.strip_prefix("ush_")?.split_once('_')?;
    let base64 = secret.len() == 43 && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let hex = secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit());
    if base64 || hex { Role::from_word(role) } else { None }
}

const NOT_VALID: &str = "the token is not valid";
const WRONG_FORM: &str = "the token is configured, but not taken: it must be ush_ROLE_ with the role that it has in \
                          [[auth.tokens]], and 64 hexadecimal digits or 43 characters of base64url; make a new one";

/// A holder of tokens.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its identity and its rights.
    pub access: Access,
    /// The hashes of its tokens, at most [`TOKENS_PER_CREDENTIAL_MAX`].
    pub tokens: Vec<TokenHash>,
}

/// A name in a client certificate, and who that is.
#[derive(Clone, Debug)]
pub struct CertificateRule {
    /// A DNS name or URI of the certificate, compared as a whole.
    pub name: String,
    /// Its identity and its rights.
    pub access: Access,
}

/// Everything that is configured about access.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// Bearer tokens.
    pub credentials: Vec<Credential>,
    /// Client certificates.
    pub certificates: Vec<CertificateRule>,
    /// True if everybody may do everything, from anywhere, where no credential is configured.
    pub insecure: bool,
    /// Names of this machine by which people ask without a credential, lower case; addresses and `localhost` always.
    pub names: Vec<String>,
    /// The user that the daemon runs as: its peers on the Unix socket are admins, as is root.
    pub own_uid: u32,
    /// How failures are limited.
    pub failures: FailureLimit,
}

/// The marks of a request that tell who makes it.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Over HTTP.
    Head {
        /// Its head.
        head: &'a Parts,
        /// True if it may ask by any name of a hosts file, as machines do (`RouteClass::is_of_machines`).
        by_any_name: bool,
    },
    /// Over a protocol that no browser and no proxy of HTTP speaks, with a token as `Authorization` would have it.
    Bare(Option<&'a [u8]>),
}

impl<'a> Asked<'a> {
    fn authorization(self) -> Option<&'a [u8]> {
        match self {
            Asked::Head { head, .. } => head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
            Asked::Bare(authorization) => authorization,
        }
    }
}

/// Checks that a request names one host, as HTTP/1.1 must.
///
/// # Errors
/// 400, which says nothing against an inbound or emergency call in its body.
pub fn check_host(head: &Parts) -> Result<(), Problem> {
    host_fault(head).map_or(Ok(()), |fault| Err(Problem::malformed(fault).of_transport()))
}

const ANOTHER_PAGE: &str = "a page of another origin sent this, and may do nothing without a token: open the dashboard at the daemon's own address";
const BEHIND_A_PROXY: &str =
    "a request that came through a proxy needs a credential of its own: the connection vouches for the proxy only";

/// Why it is not known who asks.
enum Unknown {
    /// The request is wrong in itself.
    Faulty(Problem),
    /// Nothing vouches for whoever sent it, or what does is wrong.
    Stranger(Cow<'static, str>),
}

/// Tells who asks.
#[derive(Debug)]
pub struct Authenticator {
    settings: AuthSettings,
    /// Every token hash, and whose it is.
    tokens: Vec<(TokenHash, Arc<Access>)>,
    certificates: Vec<(String, Arc<Access>)>,
    everybody: Arc<Access>,
    unix_admin: Arc<Access>,
    unix_node: Arc<Access>,
    failures: Failures,
}

impl Authenticator {
    /// An authenticator with these settings. A credential's tokens beyond [`TOKENS_PER_CREDENTIAL_MAX`] are
    /// not taken.
    pub fn new(settings: AuthSettings) -> Self {
        let mut tokens = Vec::new();
        for credential in &settings.credentials {
            let access = Arc::new(credential.access.clone());
            let hashes = credential.tokens.iter().take(TOKENS_PER_CREDENTIAL_MAX);
            tokens.extend(hashes.map(|hash| (*hash, Arc::clone(&access))));
        }
        let certificates = settings.certificates.iter();
        let certificates = certificates.map(|rule| (rule.name.clone(), Arc::new(rule.access.clone()))).collect();
        Authenticator {
            tokens,
            certificates,
            everybody: Arc::new(Access::new("anybody", Role::Admin)),
            unix_admin: Arc::new(Access::new("unix:admin", Role::Admin)),
            unix_node: Arc::new(Access::new("unix:node", Role::Node)),
            failures: Failures::default(),
            settings,
        }
    }

    /// Tells who asks. A token decides where one is given, also a wrong one; then the client certificate,
    /// then the Unix socket; then, where nothing is configured, loopback is trusted (first run). What a page of another
    /// origin sends has a token or nothing. The Unix socket and loopback vouch for whoever connects, so for nobody
    /// behind a proxy; and where a browser asks by loopback, it must be by a name that is ours.
    ///
    /// # Errors
    /// 400 where the request has not one host; 401; 429 once the address failed too often. `now_ms` tells monotonic
    /// milliseconds, and is asked only where somebody failed.
    pub fn authenticate(
        &self,
        asked: Asked<'_>,
        peer: &Peer,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<&Arc<Access>, Problem> {
        self.judge(asked, peer).map_err(|unknown| self.told(unknown, peer.address(), now_ms()))
    }

    /// The same for a machine's request with one `Host`, and with nothing in its head that a browser or a proxy adds;
    /// `None`, which counts as no failure, where there is more to say.
    pub fn knows(&self, host: &[u8], authorization: Option<&[u8]>, peer: &Peer) -> Option<&Arc<Access>> {
        if !is_plain(host) {
            return None;
        }
        self.whose(authorization, peer.address(), peer.certificate_names()).ok()
    }

    fn told(&self, unknown: Unknown, address: PeerAddress, now_ms: u64) -> Problem {
        match unknown {
            Unknown::Faulty(problem) => problem,
            Unknown::Stranger(why) => self.failed(address, now_ms, why),
        }
    }

    /// The same where anybody may ask and some are told more: who shows no credential has failed at nothing.
    pub fn recognise(&self, asked: Asked<'_>, peer: &Peer, now_ms: impl FnOnce() -> u64) -> Option<&Arc<Access>> {
        match asked.authorization() {
            Some(_) => self.authenticate(asked, peer, now_ms).ok(),
            None => self.judge(asked, peer).ok(),
        }
    }

    fn judge(&self, asked: Asked<'_>, peer: &Peer) -> Result<&Arc<Access>, Unknown> {
        let address = peer.address();
        let Asked::Head { head, by_any_name } = asked else {
            return self.whose(asked.authorization(), address, peer.certificate_names());
        };
        check_host(head).map_err(Unknown::Faulty)?;
        let authorization = asked.authorization();
        if authorization.is_none() && is_of_another_page(head) {
            return Err(Unknown::Stranger(ANOTHER_PAGE.into()));
        }
        let access = self.whose(authorization, address, peer.certificate_names())?;
        let is = |own: &Arc<Access>| Arc::ptr_eq(access, own);
        // Who is trusted by `insecure` is trusted from anywhere, under any name.
        let by_loopback = is(&self.everybody) && !self.settings.insecure;
        if (by_loopback || is(&self.unix_admin) || is(&self.unix_node)) && is_proxied(&head.headers) {
            return Err(Unknown::Stranger(BEHIND_A_PROXY.into()));
        }
        if by_loopback
            && (!by_any_name || is_of_a_page(&head.headers))
            && let Some(name) = foreign_name(head, &self.settings.names)
        {
            let detail = format!(
                "without a credential nobody may ask this of {name:?}, which could be the name of a foreign page: ask by \
                 IP address or as localhost, show a token, or list the name in server.names"
            );
            return Err(Unknown::Stranger(detail.into()));
        }
        Ok(access)
    }

    fn whose(
        &self,
        authorization: Option<&[u8]>,
        address: PeerAddress,
        certificate_names: &[String],
    ) -> Result<&Arc<Access>, Unknown> {
        if let Some(authorization) = authorization {
            let why = || Unknown::Stranger(self.why_not_valid(authorization).into());
            return self.by_token(authorization).ok_or_else(why);
        }
        let by_name = |(name, _): &&(String, Arc<Access>)| certificate_names.contains(name);
        if let Some((_, access)) = self.certificates.iter().find(by_name) {
            return Ok(access);
        }
        let local = match address {
            PeerAddress::Unix { uid } if uid == 0 || uid == self.settings.own_uid => return Ok(&self.unix_admin),
            PeerAddress::Unix { .. } => return Ok(&self.unix_node),
            PeerAddress::Ip(ip) => ip.is_loopback(),
        };
        if self.tokens.is_empty() && self.certificates.is_empty() && (local || self.settings.insecure) {
            return Ok(&self.everybody);
        }
        Err(Unknown::Stranger("a credential is required".into()))
    }

    /// Compares with every hash, each in constant time and none left out, so that neither a hit nor its
    /// place shows in the time it takes.
    fn by_token(&self, authorization: &[u8]) -> Option<&Arc<Access>> {
        if authorization.len() > AUTHORIZATION_BYTES_MAX {
            return None;
        }
        let (scheme, token) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let role = token_role(token)?;
        let presented = TokenHash::of(token);
        let mut found = None;
        for (hash, access) in &self.tokens {
            if bool::from(hash.0.ct_eq(&presented.0)) {
                found = Some(access);
            }
        }
        // The role in the token is for people; a token that lies about it was tampered with.
        found.filter(|access| access.role == role)
    }

    /// Whoever shows a token that is configured is told what is wrong with its form; to all others it is not valid.
    fn why_not_valid(&self, authorization: &[u8]) -> &'static str {
        let text = std::str::from_utf8(authorization).ok().filter(|text| text.len() <= AUTHORIZATION_BYTES_MAX);
        let Some((_, token)) = text.and_then(|text| text.split_once(' ')) else { return NOT_VALID };
        let presented = TokenHash::of(token.trim());
        let known = self.tokens.iter().filter(|(hash, _)| bool::from(hash.0.ct_eq(&presented.0))).count();
        if known > 0 { WRONG_FORM } else { NOT_VALID }
    }

    fn failed(&self, address: PeerAddress, now_ms: u64, detail: Cow<'static, str>) -> Problem {
        let key = match address {
            PeerAddress::Ip(ip) => Some(address_key(ip)),
            PeerAddress::Unix { .. } => None,
        };
        match self.failures.count(key, self.settings.failures, now_ms) {
            Ok(()) => Problem::new(ProblemKind::NotPermitted, detail),
            Err(retry_after_s) => Problem::too_many(retry_after_s, "too many failed authentications"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE";

    fn token(role: &str) -> String {
        format!("ush_{role}_{SECRET}")
    }

    impl Authenticator {
        fn who(
            &self,
            authorization: Option<&[u8]>,
            address: PeerAddress,
            certificate_names: &[String],
            now_ms: u64,
        ) -> Result<&Arc<Access>, Problem> {
            self.whose(authorization, address, certificate_names).map_err(|unknown| self.told(unknown, address, now_ms))
        }
    }

    fn ip(last: u8) -> PeerAddress {
        PeerAddress::Ip(IpAddr::from([10, 0, 0, last]))
    }

    const LOOPBACK: PeerAddress = PeerAddress::Ip(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn one_node() -> Authenticator {
        let access = Access { tenants: vec!["acme".into()], ..Access::new("pbx1", Role::Node) };
        let old = TokenHash::of(&format!("ush_node_{}", "0f".repeat(32)));
        let tokens = vec![TokenHash::of(&token("node")), old, TokenHash::of(&token("third"))];
        let rule = CertificateRule { name: "viewer.example".into(), access: Access::new("cert", Role::Viewer) };
        Authenticator::new(AuthSettings {
            credentials: vec![Credential { access, tokens }],
            certificates: vec![rule],
            own_uid: 77,
            failures: FailureLimit { burst: 2, per_minute: 6 },
            ..AuthSettings::default()
        })
    }

    fn bearer(token: &str) -> Vec<u8> {
        format!("Bearer {token}").into_bytes()
    }

    #[test]
    fn either_token_of_a_pair_opens_and_nothing_else() {
        let auth = one_node();
        for good in [token("node"), format!("ush_node_{}", "0f".repeat(32))] {
            assert_eq!(auth.who(Some(&bearer(&good)), ip(1), &[], 0).unwrap().id, "pbx1");
        }
        for (n, bad) in
            [token("admin"), token("third"), "ush_node_x".into(), String::new(), "x".repeat(999)].iter().enumerate()
        {
            let address = ip(10 + u8::try_from(n).unwrap());
            assert_eq!(auth.who(Some(&bearer(bad)), address, &[], 0).unwrap_err().status(), 401, "{bad}");
        }
        assert_eq!(auth.who(Some(b"Basic abc"), ip(2), &[], 0).unwrap_err().status(), 401);
        assert_eq!(auth.who(None, LOOPBACK, &[], 0).unwrap_err().status(), 401, "tokens end the first-run default");
        assert_eq!(auth.who(Some(b"Bearer x"), PeerAddress::Unix { uid: 0 }, &[], 0).unwrap_err().status(), 401);
    }

    #[test]
    fn certificates_and_the_unix_socket_have_roles() {
        let auth = one_node();
        let names = ["other".to_owned(), "viewer.example".to_owned()];
        assert_eq!(auth.who(None, ip(1), &names, 0).unwrap().role, Role::Viewer);
        for (uid, role) in [(0, Role::Admin), (77, Role::Admin), (1000, Role::Node)] {
            assert_eq!(auth.who(None, PeerAddress::Unix { uid }, &[], 0).unwrap().role, role);
        }
    }

    #[test]
    fn without_credentials_loopback_alone_is_trusted() {
        let auth = Authenticator::new(AuthSettings::default());
        assert_eq!(auth.who(None, LOOPBACK, &[], 0).unwrap().role, Role::Admin);
        assert_eq!(auth.who(None, ip(1), &[], 0).unwrap_err().status(), 401);
        let auth = Authenticator::new(AuthSettings { insecure: true, ..AuthSettings::default() });
        assert_eq!(auth.who(None, ip(1), &[], 0).unwrap().role, Role::Admin);
    }

    #[test]
    fn failures_are_limited_per_address_and_successes_never() {
        let auth = one_node();
        let try_bad = |from, now_ms| auth.who(Some(b"Bearer bad"), from, &[], now_ms).unwrap_err().status().as_u16();
        assert_eq!([try_bad(ip(1), 0), try_bad(ip(1), 0), try_bad(ip(1), 0)], [401, 401, 429]);
        assert_eq!(try_bad(ip(2), 0), 401, "another address");
        assert!(auth.who(Some(&bearer(&token("node"))), ip(1), &[], 0).is_ok());
        assert_eq!([try_bad(ip(1), 9_000), try_bad(ip(1), 10_000), try_bad(ip(1), 10_001)], [429, 401, 429]);
        assert_eq!(auth.failures.count(Some(IpAddr::from([10, 0, 0, 1])), auth.settings.failures, 10_001), Err(10));
    }

    #[test]
    fn a_role_may_what_it_is_for() {
        use RouteClass::{Decide, Explain, Metrics, Nodes, Open, Read, Sync};
        for (role, may) in [
            (Role::Node, &[Open, Decide, Explain, Nodes][..]),
            (Role::Scrape, &[Open, Metrics]),
            (Role::Viewer, &[Open, Explain, Read, Metrics]),
            (Role::Admin, &[Open, Decide, Explain, Nodes, Read, Metrics, RouteClass::Admin, Sync]),
            (Role::Sync, &[Open, Sync]),
        ] {
            for class in [Open, Decide, Explain, Nodes, Read, Metrics, RouteClass::Admin, Sync] {
                assert_eq!(Access::new("x", role).may(class, None), may.contains(&class), "{role:?} {class:?}");
            }
        }
    }

    #[test]
    fn only_a_viewer_without_the_right_sees_no_names() {
        for role in Role::ALL {
            let access = Access::new("x", *role);
            assert_eq!(access.sees_names(), *role != Role::Viewer, "{role:?}");
            assert!(Access { names: true, ..access }.sees_names());
        }
    }

    #[test]
    fn a_tenants_token_neither_sees_nor_changes_another() {
        let access = Access { tenants: vec!["acme".into()], ..Access::new("x", Role::Admin) };
        assert!(access.may(RouteClass::Decide, Some("acme")) && access.may(RouteClass::Read, None));
        assert!(!access.may(RouteClass::Decide, Some("other")) && !access.sees("other"));
        assert!(!access.may(RouteClass::Admin, None) && !access.may(RouteClass::Metrics, None));
        assert!(!access.sees_node("n1") && access.need_node(Some("n1")).is_err() && access.need_node(None).is_ok());
        assert!(Access { nodes: vec!["n1".into()], ..access.clone() }.need_node(Some("n1")).is_ok());
        assert!(Access::new("x", Role::Node).need_node(Some("any")).is_ok());
        assert_eq!(access.need(RouteClass::Admin, None).unwrap_err().status(), 401);
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", one_node());
        let hash = TokenHash::of(&token("node"));
        assert!(
            !shown.contains(SECRET) && !shown.contains(&hash.to_hex()) && !shown.contains(&format!("{:?}", hash.0))
        );
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(TokenHash::from_hex("abc"), None);
        assert_eq!(TokenHash::from_hex(&"ü".repeat(32)), None);
    }
}
