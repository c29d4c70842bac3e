//! The scenarios of the rule book that loading a configuration decides.

use std::path::Path;

use chrono::{DateTime, Utc};
use usherd::daemon::config::{Memory, ProblemCode, Severity, load_from};

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn an_explicit_instant_wins_over_the_computed_one_t109() {
    let mut files = Memory::default();
    files.put("/etc/usherd/usherd.toml", "");
    let record =
        "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 16\n[[change]]\neffective_at = \"2027-07-01\"\nseats = 10\n";
    files.put("/etc/usherd/tenants.d/acme.toml", record);
    let config = load_from(&files, Path::new("/etc/usherd/usherd.toml"), t("2026-11-22T12:00:00Z")).unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("one warning, not {:?}", config.warnings) };
    assert_eq!((warning.severity, warning.code), (Severity::Warning, ProblemCode::ExplicitInstant));
    // Civil midnights of Berlin: 2027-07-01 as the record says, 2027-06-16 as computed.
    for instant in ["2027-06-30T22:00:00Z", "2027-06-15T22:00:00Z"] {
        assert!(warning.message.contains(instant), "{warning}");
    }
    let seats = |at: &str| config.tenants["acme"].entitlement(t(at)).seats;
    assert_eq!((seats("2027-06-30T21:59:59Z"), seats("2027-06-30T22:00:00Z")), (Some(16), Some(10)));
}
