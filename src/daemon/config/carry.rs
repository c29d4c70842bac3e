//! Carries tenants that left `usherd.toml` over into its new text, for as long as they stay.

use toml::{Table, Value};

const HEAD: &str = "# These have left the file, and stay for removal_delay_s.";

/// The new text with the tenants of the old one of these ids at its end, and with the old `[sync]` where the pulled
/// records need it. `None` where the two cannot stand in one file.
pub(super) fn carry(old: &[u8], new: &[u8], is_gone: impl Fn(&str) -> bool, with_sync: bool) -> Option<Vec<u8>> {
    let (old, text) = (std::str::from_utf8(old).ok()?, std::str::from_utf8(new).ok()?);
    let (mut old, new): (Table, Table) = (old.parse().ok()?, text.parse().ok()?);
    let mut more = Table::new();
    if let Some(Value::Array(mut tenants)) = old.remove("tenant") {
        tenants.retain(|tenant| tenant.get("id").and_then(Value::as_str).is_some_and(&is_gone));
        if !tenants.is_empty() {
            more.insert("tenant".to_owned(), Value::Array(tenants));
        }
    }
    if with_sync {
        if new.contains_key("sync") {
            return None;
        }
        more.insert("sync".to_owned(), old.remove("sync")?);
    }
    let more = toml::to_string(&more).ok()?;
    Some(format!("{text}\n{HEAD}\n{more}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_carried_whole_and_no_others_are() {
        let old = "[server]\nworkers = 2\n[[tenant]]\nid = \"a\"\nseats = 1\n[[tenant]]\nid = \"b\"\nstart = 2026-01-01\n\
                   [tenant.reserve]\ndesk = 2\n[[tenant.change]]\nseats = 3\n[sync]\nurl = \"https://x/\"\n";
        let carried = |new: &str, with_sync| {
            let text = carry(old.as_bytes(), new.as_bytes(), |id| id == "b", with_sync)?;
            Some(String::from_utf8(text).unwrap().parse::<Table>().unwrap())
        };
        let after = carried("[server]\nworkers = 9", true).unwrap();
        let b: Table =
            "start = 2026-01-01\nid = \"b\"\nreserve = { desk = 2 }\nchange = [{ seats = 3 }]".parse().unwrap();
        assert_eq!(after["server"]["workers"].as_integer(), Some(9));
        assert_eq!(
            (after["tenant"].as_array().unwrap().as_slice(), &after["sync"]),
            (&[Value::Table(b)][..], &old.parse::<Table>().unwrap()["sync"])
        );
        assert!(!carried("", false).unwrap().contains_key("sync"));
        assert_eq!(carried("[sync]\nurl = \"\"\n", true), None);
        assert_eq!(carried("= broken", false), None);
    }
}
