//! Subscriptions from the shell: looked at and changed at any instant, without a running daemon.

use serde_json::{Value, json};

use super::run;

const OFFICE: &str = "# the office\nkind = \"paid\"\nstart = \"2026-06-16\"\nseats = 16 # since June\nnumbers = 20\n";

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(main: &str, tenant: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        // Nobody listens there: no daemon of this machine is meant.
        std::fs::write(folder.path().join("usherd.toml"), format!("{main}\n[server]\nlisten = \"127.0.0.1:1\"\n"))
            .unwrap();
        let files = Files { folder };
        files.write(tenant);
        files
    }

    fn write(&self, tenant: &str) {
        std::fs::write(self.folder.path().join("tenants.d/acme.toml"), tenant).unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("tenants.d/acme.toml")).unwrap()
    }

    fn run(&self, arguments: &str, code: i32) -> (String, String) {
        let main = self.folder.path().join("usherd.toml");
        let mut all = vec!["subscription"];
        all.extend(arguments.split_whitespace());
        all.extend(["--config", main.to_str().unwrap()]);
        run(&all, code)
    }

    fn json(&self, arguments: &str, code: i32) -> Value {
        let (out, err) = self.run(&format!("{arguments} -o json"), code);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }
}

#[test]
fn a_subscription_is_shown_at_any_instant_t115_t170() {
    let files = Files::new("", &format!("{OFFICE}[[change]]\neffective_at = \"2027-06-16\"\nseats = 10\n"));
    for (at, state, seats, surplus) in [
        ("2026-11-22T12:00:00Z", "pending_change", 16, 4),
        ("2027-06-15T21:59:59Z", "pending_change", 16, 4),
        ("2027-06-16T00:00:00+02:00", "active", 10, 10),
        ("2035-01-01T00:00:00Z", "active", 10, 10),
    ] {
        let shown = files.json(&format!("show acme --at {at}"), 0);
        assert_eq!((&shown["state"], &shown["seats"]), (&json!(state), &json!(seats)), "{at}");
        assert_eq!(shown["surplus_numbers"], surplus, "{at}");
        assert_eq!(shown["term_ends_at"], "2027-06-15T22:00:00Z");
    }
    let shown = files.json("show acme --at 2026-11-22T12:00:00Z", 0);
    assert_eq!((&shown["numbers"], &shown["channels"], &shown["endpoints"]), (&json!(16), &json!(80), &json!(null)));
    assert_eq!(
        shown["schedule"],
        json!([{"id": "subscription@2027-06-15T22:00:00Z", "object": "subscription", "effective_at": "2027-06-15T22:00:00Z",
            "seats": 10, "by": "customer", "status": "pending"}])
    );
    let (table, _) = files.run("show acme --utc --at 2026-11-22T12:00:00Z", 0);
    assert!(table.contains("pending_change") && table.contains("subscription@2027-06-15T22:00:00Z"), "{table}");
    let (csv, _) = files.run("show acme -o csv --utc --at 2026-11-22T12:00:00Z", 0);
    assert!(csv.starts_with("id,object,effective_at,seats,"), "{csv}");
}

#[test]
fn a_trial_ends_by_the_calendar_t085_t089() {
    let files = Files::new("", "kind = \"trial\"\nstart = \"2026-03-10T10:00:00\"\n");
    for (at, state, seats) in [("2026-04-09T07:59:59Z", "trial", 10), ("2026-04-09T08:00:00Z", "ended", 0)] {
        let shown = files.json(&format!("show acme --at {at}"), 0);
        assert_eq!((&shown["state"], &shown["seats"]), (&json!(state), &json!(seats)), "{at}");
        assert_eq!(shown["ends_at"], "2026-04-09T08:00:00Z");
    }
}

#[test]
fn requests_are_priced_written_and_revoked() {
    let files = Files::new("", OFFICE);
    let at = "--at 2026-11-22T12:00:00Z";
    let dry = files.json(&format!("request acme reduce --to 10 --dry-run {at}"), 0);
    assert_eq!((&dry["accepted"], &dry["effective_at"]), (&json!(true), &json!("2027-06-15T22:00:00Z")));
    assert_eq!(files.text(), OFFICE);
    let add = files.json(&format!("request acme add --seats 9 {at}"), 0);
    // 25 seats at 801 instead of 16: 7,209 more a month, of which 9 of 30 days are left.
    assert_eq!((&add["charge_cents"], &add["credit_cents"]), (&json!(7_209), &json!(5_046)));
    let reduce = files.json(&format!("request acme reduce --to 10 {at}"), 0);
    let id = reduce["change"].as_str().unwrap();
    let refused = files.json(&format!("request acme reduce --to 8 {at}"), 1);
    assert_eq!((&refused["accepted"], &refused["refusal"]), (&json!(false), &json!("pending_change")));
    files.json(&format!("request acme revoke --change {id} {at}"), 0);
    let cancel = files.json(&format!("request acme cancel --actor operator {at}"), 0);
    assert_eq!(
        cancel["schedule"][0],
        json!({"id": "subscription@cancel", "object": "subscription",
        "effective_at": "2027-06-15T22:00:00Z", "cancel": true, "by": "operator", "status": "pending"})
    );
    let text = files.text();
    assert!(text.starts_with("# the office\n") && text.contains("seats = 16 # since June\n"), "{text}");
    assert!(text.contains("cancel_by = \"operator\"") && !text.contains("seats = 10"), "{text}");
}

/// X1: the three regimes of a reduction, by configuration alone (T096-T098), and profiles.
#[test]
fn the_regime_is_a_key_t096_t097_t098() {
    let at = "--at 2026-12-01T12:00:00Z";
    for (policy, code, refusal, earliest) in [
        ("", 0, json!(null), json!(null)),
        ("[policy]\ndowngrade = \"after_term_recreate\"", 1, json!("in_term"), json!("2027-06-15T22:00:00Z")),
        ("[policy]\ndowngrade = \"recreate_now\"", 1, json!("needs_recreate"), json!("2026-12-01T12:00:00Z")),
        ("[policy]\nprofile = \"pascom-2019\"", 1, json!("needs_recreate"), json!("2026-12-01T12:00:00Z")),
    ] {
        let files = Files::new(policy, OFFICE);
        for request in ["cancel --licences 6 --dry-run", "reduce --to 10"] {
            let answer = files.json(&format!("request acme {request} {at}"), code);
            assert_eq!((&answer["refusal"], &answer["earliest_at"]), (&refusal, &earliest), "{policy}: {request}");
        }
    }
    let storefront = Files::new("[policy]\nprofile = \"storefront\"", OFFICE);
    let answer = storefront.json(&format!("request acme cancel --when period_end {at}"), 0);
    assert_eq!(answer["effective_at"], "2026-12-31T23:00:00Z");
    let files = Files::new("[policy]\nprofile = \"pascom-2019\"", OFFICE);
    let answer = files.json(&format!("request acme cancel --when immediate {at}"), 0);
    assert_eq!((&answer["state"], &answer["credit_cents"]), (&json!("ended"), &json!(0)), "no refund (K7)");
}

#[test]
fn what_is_wrong_is_said_by_exit_code_and_sentence() {
    let files = Files::new("", OFFICE);
    for (arguments, code, what) in [
        ("show nobody", 1, "has no tenant"),
        ("show acme --at yesterday", 2, "write an instant with its zone"),
        ("request acme add", 2, "--seats is required to add"),
        ("request acme add --to 5 --seats 4", 2, "cannot be used with"),
        ("request acme add --to 20", 2, "--to does not belong to add"),
        ("request acme add --licences 3", 2, "--licences does not belong to add"),
        ("request acme reduce --seats 6", 2, "--seats does not belong to reduce"),
        ("request acme cancel --seats 3", 2, "--seats does not belong to cancel"),
        ("request acme reduce", 2, "--to is required to reduce"),
        ("request acme cancel --licences 1000001", 2, "--licences must be a whole number from 0 to 1000000"),
        ("request acme add --seats 1000001", 2, "0 to 1000000"),
        ("request acme add --seats 1 --at 9999-12-31T23:59:59Z", 2, "outside the years 1970 to 2999"),
        ("show acme --at 0001-01-01T00:00:00Z", 2, "outside the years 1970 to 2999"),
        ("request acme cancel --when 2026-02-30", 2, "a date that exists"),
        ("request acme dance", 2, "possible values"),
        ("request acme revoke", 2, "--change is required to revoke"),
        ("request nobody add --seats 1", 1, "has no tenant"),
    ] {
        let (out, err) = files.run(arguments, code);
        assert!(err.contains(what) && out.is_empty(), "{arguments}: {out}{err}");
    }
    files.write("kind = \"paid\"\nseats = -1\n");
    let (_, err) = files.run("request acme add --seats 1", 78);
    assert!(err.contains("acme.toml:2"), "{err}");
}

/// The file around the request stays as somebody wrote it: comments, line ends, byte order mark.
#[test]
fn an_accepted_request_keeps_what_people_wrote() {
    let change = "effective_at = \"2026-12-01T12:00:00Z\"\nseats = 20\nby = \"customer\"\n";
    let listed = "# booked
change = [ # in June
  { effective_at = \"2026-07-01\", seats = 18 }, # more
  # fewer
  { effective_at = \"2026-08-01\", seats = 16 },
  # that is all
] # for now
";
    let spread = "# booked
# in June
# more
[[change]]
effective_at = \"2026-07-01\"
seats = 18

# fewer
# that is all
# for now
[[change]]
effective_at = \"2026-08-01\"
seats = 16
";
    for (before, after) in [
        (OFFICE.to_owned(), format!("{OFFICE}\n[[change]]\n{change}")),
        (OFFICE.replace('\n', "\r\n"), format!("{OFFICE}\n[[change]]\n{change}").replace('\n', "\r\n")),
        (format!("\u{feff}{OFFICE}"), format!("\u{feff}{OFFICE}\n[[change]]\n{change}")),
        (format!("{OFFICE}{listed}"), format!("{OFFICE}\n{spread}\n[[change]]\n{change}")),
        (format!("{OFFICE}change = []\n"), format!("{OFFICE}\n[[change]]\n{change}")),
    ] {
        let files = Files::new("", &before);
        let answer = files.json("request acme add --seats 4 --at 2026-12-01T12:00:00Z", 0);
        assert_eq!(answer["seats"], 20);
        assert_eq!(files.text(), after);
        let (_, err) = run(&["config", "check", files.folder.path().join("usherd.toml").to_str().unwrap()], 0);
        assert!(!err.contains("error"), "{err}");
    }
}

#[test]
fn a_read_only_file_is_left_alone() {
    let files = Files::new("", OFFICE);
    let path = files.folder.path().join("tenants.d/acme.toml");
    let mut rights = std::fs::metadata(&path).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(&path, rights).unwrap();
    let (_, err) = files.run("request acme add --seats 4", 1);
    assert!(err.contains("acme.toml cannot be written: the file is read-only"), "{err}");
    assert_eq!(files.text(), OFFICE);
}

/// N3 before the start: a refusal, not a record that the reader would not take.
#[test]
fn what_has_not_begun_does_not_end_at_once() {
    let files = Files::new("", OFFICE);
    let at = "--actor operator --at 2026-06-01T12:00:00Z";
    let refused = files.json(&format!("request acme cancel --when immediate {at}"), 1);
    let earliest = json!("2026-06-15T22:00:00Z");
    assert_eq!((&refused["refusal"], &refused["earliest_at"]), (&json!("not_immediate"), &earliest));
    files.json(&format!("request acme cancel {at}"), 0);
}

#[test]
fn tables_show_add_ons_and_what_is_asked_in_words() {
    let addon = "[[addon]]\nid = \"season\"\nseats = 5\n";
    let files = Files::new("[policy]\nexecute_subscription = false\n", &format!("{OFFICE}{addon}"));
    let at = "--utc --at 2026-12-01T12:00:00Z";
    let (table, _) = files.run(&format!("request acme cancel --licences 3 {at}"), 0);
    assert!(table.lines().any(|line| line.starts_with("ID") && line.contains("CANCEL")), "{table}");
    assert!(table.lines().any(|line| line.starts_with("request:1") && line.contains(" 3 ")), "{table}");
    files.json("request acme withdraw --change request:1", 0);
    let (table, _) = files.run(&format!("request acme cancel {at}"), 0);
    assert!(table.lines().any(|line| line.starts_with("request:2") && line.contains(" all ")), "{table}");
    let (table, _) = files.run(&format!("show acme {at}"), 0);
    assert!(table.lines().any(|line| line.starts_with("addon:season") && line.ends_with('5')), "{table}");
    assert!(!table.contains("objects.0"), "{table}");
    let ended = files.json(&format!("request acme cancel --when immediate --actor operator {at}"), 0);
    assert_eq!(ended["schedule"], json!([]), "it overrides what waits for a decision (N8)");
}
