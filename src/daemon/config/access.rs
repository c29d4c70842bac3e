//! Reads `[auth]` of `usherd.toml`: tokens and client certificates, and what each allows.

use usherd_engine::session::{Name, check_word};

use super::reader::Table;
use super::settings::{Auth, Certificate, TOKENS_MAX, Token};
use super::value::{Cx, any_tenant, quoted};
use super::words::{ProblemCode, Role};

const SHA256_HELP: &str =
    "write the 64 hexadecimal digits of the token's SHA-256, as `printf %s \"$TOKEN\" | sha256sum` prints them";

/// How a token is made, which the daemon takes in this form only.
const TOKEN_HELP: &str = "make one as TOKEN=ush_ROLE_$(openssl rand -hex 32), with its role in place of ROLE";
/// The hashes that a shell makes where there is no token.
const OF_NOTHING: [(&str, &str); 3] = [
    ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "nothing"),
    ("01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b", "an empty line"),
    ("7eb70257593da06f682a3ddda54a9d260d4fc514f645237f5ca74b08f8da61a6", "an empty line with two ends"),
];

/// Reads the section.
pub(super) fn read(cx: &mut Cx<'_>, mut table: Table<'_, '_>, auth: &mut Auth) {
    for mut entry in table.tables(cx, "tokens", TOKENS_MAX) {
        let id = entry.text_opt(cx, "id");
        let Allowed { role, tenants, nodes, names } = read_access(cx, &mut entry);
        let sha256 = read_sha256(cx, &mut entry);
        match (id, sha256) {
            (Some((id, item)), Some(sha256)) => {
                if let Some(twin) = auth.tokens.iter().find(|token| token.sha256 == sha256 && token.id != id) {
                    let message = format!("`{}` and {} are one token", quoted(&id), quoted(&twin.id));
                    let help = "a token has one role, which stands in it: make a token for each";
                    item.wrong_as(cx, ProblemCode::Duplicate, message, help);
                }
                if auth.tokens.iter().any(|token| token.id == id) {
                    let message = format!("`{}` is given to two tokens: {}", item.key_path, quoted(&id));
                    item.wrong_as(
                        cx,
                        ProblemCode::Duplicate,
                        message,
                        "give each token an id of its own; two may have one role",
                    );
                } else {
                    auth.tokens.push(Token { id, role, sha256, tenants, nodes, names });
                }
            }
            (None, _) if !entry.has("id") => entry.missing(cx, "id", "write what logs shall call it"),
            _ => {}
        }
        entry.finish(cx);
    }
    for mut entry in table.tables(cx, "certificates", TOKENS_MAX) {
        let name = entry.text_opt(cx, "name");
        let Allowed { role, tenants, nodes, names } = read_access(cx, &mut entry);
        match name {
            Some((name, item)) if auth.certificates.iter().any(|known| known.name == name) => {
                let message = format!("`{}` is given twice: {}", item.key_path, quoted(&name));
                item.wrong_as(
                    cx,
                    ProblemCode::Duplicate,
                    message,
                    "a name has one role; other certificates need other names",
                );
            }
            Some((name, item)) if name.is_empty() => {
                item.wrong(cx, format!("`{}` is empty", item.key_path), "write a DNS name or URI of the certificate");
            }
            Some((name, _)) => auth.certificates.push(Certificate { name, role, tenants, nodes, names }),
            None if !entry.has("name") => entry.missing(cx, "name", "write a DNS name or URI of the certificate"),
            None => {}
        }
        entry.finish(cx);
    }
    table.finish(cx);
}

/// The rights of a credential.
struct Allowed {
    role: Role,
    tenants: Vec<Name>,
    nodes: Vec<String>,
    names: bool,
}

fn read_access(cx: &mut Cx<'_>, entry: &mut Table<'_, '_>) -> Allowed {
    let mut role = Role::Viewer;
    if entry.has("role") {
        entry.word(cx, "role", &mut role);
    } else {
        entry.item("role");
        entry.missing(cx, "role", "allowed: `node`, `scrape`, `viewer`, `admin` or `sync`");
    }
    let (mut tenants, mut nodes) = (Vec::new(), Vec::new());
    entry.texts(cx, "tenants", &mut tenants, any_tenant);
    entry.texts(cx, "nodes", &mut nodes, any_node);
    let mut names = false;
    entry.flag(cx, "names", &mut names);
    if names
        && role != Role::Viewer
        && let Some(item) = entry.item("names")
    {
        let message = format!("`{}` is for the role viewer", item.key_path);
        item.wrong(cx, message, "leave it out: an admin sees names, no other role reads any");
    }
    Allowed { role, tenants, nodes, names }
}

fn any_node(node: &str) -> Result<String, (&'static str, &'static str)> {
    let mut faults = Vec::new();
    check_word("nodes", node, &mut faults);
    match faults.is_empty() {
        true => Ok(node.to_owned()),
        false => Err(("is not the name of a node", "write 1 to 64 printable ASCII characters without blanks")),
    }
}

fn read_sha256(cx: &mut Cx<'_>, entry: &mut Table<'_, '_>) -> Option<[u8; 32]> {
    let Some(item) = entry.item("sha256") else {
        entry.missing(cx, "sha256", SHA256_HELP);
        return None;
    };
    let text = item.text(cx)?;
    if text.starts_with("ush_") {
        // Whoever reads the complaint must not read the token.
        let problem = cx.fault(&item.span, &item.key_path, format!("`{}` is a token, not its SHA-256", item.key_path));
        let help = format!("{SHA256_HELP}; make a new token, since this one has been written down");
        cx.problems.push(problem.help(help).without_excerpt());
        return None;
    }
    if let Some((_, of)) = OF_NOTHING.iter().find(|(hash, _)| *hash == text.to_lowercase()) {
        let message = format!("`{}` is the SHA-256 of {of}", item.key_path);
        item.wrong(cx, message, format!("the variable was empty or misspelt: {TOKEN_HELP}; {SHA256_HELP}"));
        return None;
    }
    let mut sha256 = [0u8; 32];
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    match digits.filter(|digits| digits.len() == 64) {
        Some(digits) => {
            for (byte, pair) in sha256.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = (pair[0] << 4) | pair[1];
            }
            entry.noted(cx, "sha256", || quoted(&format!("{}...", text[..8].to_lowercase())));
            Some(sha256)
        }
        None => {
            item.wrong(cx, format!("`{}` is not a SHA-256", item.key_path), SHA256_HELP);
            None
        }
    }
}
