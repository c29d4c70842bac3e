//! The head lines by which one daemon asks another in somebody's name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::daemon::access::auth::{Access, Role};

/// The member that forwards a request. One that has it is never forwarded again.
pub const FORWARDED: HeaderName = HeaderName::from_static("usherd-forwarded");
/// In whose name it is forwarded.
pub const CALLER: HeaderName = HeaderName::from_static("usherd-caller");

#[derive(Serialize, Deserialize)]
struct Written {
    id: String,
    role: String,
    tenants: Vec<String>,
    nodes: Vec<String>,
    names: bool,
}

/// Somebody, as a head says it: JSON in base64.
pub(super) fn write(access: &Access) -> HeaderValue {
    let Access { id, role, tenants, nodes, names } = access;
    let written = Written {
        id: id.clone(),
        role: role.as_str().to_owned(),
        tenants: tenants.clone(),
        nodes: nodes.clone(),
        names: *names,
    };
    let json = serde_json::to_vec(&written).unwrap_or_default();
    HeaderValue::try_from(STANDARD.encode(json)).unwrap_or(HeaderValue::from_static(""))
}

/// The same read back; `None` where it says nothing.
pub(super) fn read(value: &HeaderValue) -> Option<Access> {
    let json = STANDARD.decode(value.as_bytes()).ok()?;
    let Written { id, role, tenants, nodes, names } = serde_json::from_slice(&json).ok()?;
    Some(Access { id, role: Role::from_word(&role)?, tenants, nodes, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_the_same_on_the_other_side() {
        for (role, tenants, names) in [(Role::Admin, vec![], true), (Role::Node, vec!["größe".to_owned()], false)] {
            let access = Access { tenants, names, nodes: vec!["pbx-1".to_owned()], ..Access::new("ä", role) };
            assert_eq!(read(&write(&access)), Some(access));
        }
        for nothing in ["", "%", "e30=", "bnVsbA=="] {
            assert_eq!(read(&HeaderValue::from_static(nothing)), None, "{nothing}");
        }
    }
}
