//! The groups of this machine: their names and numbers.

use std::io;

/// The file of groups.
const GROUPS: &str = "/etc/group";

/// The number of a group, as `/etc/group` has it; a number stands for itself, even if there is no such group. A
/// group of a directory service is only known by its number.
///
/// # Errors
/// There is none of this name, or the file cannot be read.
pub fn number_of(group: &str) -> io::Result<u32> {
    if group.bytes().all(|byte| byte.is_ascii_digit()) {
        // The last number means "unchanged" to the kernel.
        let number = group.parse().ok().filter(|number| *number != u32::MAX);
        return number.ok_or_else(|| unknown(format!("{group:?} is no number of a group")));
    }
    let groups =
        std::fs::read_to_string(GROUPS).map_err(|why| io::Error::new(why.kind(), format!("{GROUPS}: {why}")))?;
    number_in(&groups, group).ok_or_else(|| unknown(format!("{GROUPS} has no group {group:?}")))
}

fn unknown(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, what)
}

fn number_in(groups: &str, group: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(group) { fields.nth(1)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_name_or_a_number() {
        let groups = "root:x:0:\n#users:x:7:\nusers:x:100:anna,bob\nbroken\nbad:x:minus:\n";
        for (group, number) in
            [("root", Some(0)), ("users", Some(100)), ("user", None), ("broken", None), ("bad", None)]
        {
            assert_eq!(number_in(groups, group), number, "{group}");
        }
        assert_eq!(number_of("1234").unwrap(), 1_234);
        assert_eq!(number_of("root").unwrap(), 0);
        for nobody in ["no such group", "-1", "4294967295", "4294967296"] {
            assert!(number_of(nobody).is_err(), "{nobody}");
        }
    }
}
