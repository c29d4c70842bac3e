//! Accepted requests are written so that the file says them, whatever else stands there; and only that changes.

use chrono::Duration;
use usherd::daemon::config::{Contents, Unwritten, load, submit};
use usherd_subscription::record::{Actor, Object, When};
use usherd_subscription::request::{Request, Verb};
use usherd_subscription::schedule::schedule;

use crate::script::t;

/// As an admin would leave it: comments at every place, keys in no order, other sections between.
const ACME: &str = r#"# ACME, the office in the Lindenhof
seats = 16   # since June
kind = "paid"
# they start in summer
start = "2026-06-16"

[reserve] # the switchboard
desk = 2

[sessions]
never_deny = ["lift", "door"]

# Christmas
[[addon]]
id = "season" # agreed by phone
seats = 5

[[change]] # booked by the portal
effective_at = "2027-01-01T00:00:00+01:00"
seats = 18

[policy]
cancel_immediate = true
execute_addon = false
"#;

const INLINE: &str = r#"tenants_dir = "" # all stand here
[[tenant]] # the first
id = "first"
kind = "nfr"
seats = 5

[[tenant]]
id = "acme" # the second
kind = "trial"
start = "2026-11-20T10:00:00"
[[tenant.addon]]
id = "season"
seats = 3
[[tenant]]
id = "last"
kind = "paid"
seats = 7 # seven
"#;

fn ask(random: &mut fastrand::Rng, booked: &[String]) -> Request {
    let actor = if random.bool() { Actor::Customer } else { Actor::Operator };
    let object = if random.u8(0..3) == 0 { Object::Addon("season".to_owned()) } else { Object::Subscription };
    let when = [None, Some(When::PeriodEnd), Some(When::Immediate)][random.usize(0..3)];
    let change = || booked.first().cloned().unwrap_or_default();
    let verb = match random.u8(0..20) {
        0..6 => Verb::Add { seats: random.u32(1..5) },
        6..10 => Verb::Reduce { to: random.u32(1..20) },
        10 => Verb::Cancel { licences: None, when: Some(When::PeriodEnd) },
        11..13 => Verb::Cancel { licences: Some(random.u32(1..4)), when },
        13 => Verb::Suspend,
        14 => Verb::Resume,
        15 => Verb::Accept { change: change() },
        16 => Verb::Upgrade { seats: random.u32(1..20) },
        _ => Verb::Revoke { change: change() },
    };
    Request { actor, object, verb }
}

#[test]
fn the_file_says_what_was_accepted_and_keeps_what_people_wrote() {
    let mut accepted = 0;
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("usherd.toml");
        let inline = seed % 3 == 0;
        let file = if inline {
            std::fs::write(&main, INLINE).unwrap();
            main.clone()
        } else {
            std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
            std::fs::write(&main, "").unwrap();
            std::fs::write(folder.path().join("tenants.d/acme.toml"), ACME).unwrap();
            folder.path().join("tenants.d/acme.toml")
        };
        let written = if inline { INLINE } else { ACME };
        let mut now = t("2026-11-22T12:00:00Z");
        for _ in 0..25 {
            now += Duration::minutes(random.i64(0..60_000));
            let config = load(&main, now).unwrap();
            let tenant = &config.tenants["acme"];
            let mut booked: Vec<String> =
                schedule(&tenant.record, &tenant.terms, now).into_iter().map(|item| item.id).collect();
            random.shuffle(&mut booked);
            let before = std::fs::read_to_string(&file).unwrap();
            let ask = ask(&mut random, &booked);
            let submission = submit(&main, "acme", &ask, now, false, &Contents::default())
                .unwrap_or_else(|why| panic!("seed {seed}: {why:?}\n{before}"));
            let text = std::fs::read_to_string(&file).unwrap();
            let Ok(answer) = submission.answer else {
                assert_eq!(text, before, "seed {seed}: a refusal writes nothing");
                continue;
            };
            accepted += 1;
            assert_eq!(load(&main, now).unwrap().tenants["acme"].record, answer.record, "seed {seed}: {ask:?}\n{text}");
            check_kept(written, &text, &format!("seed {seed}: {ask:?}"));
        }
    }
    assert!(accepted > 300, "only {accepted} requests were accepted");
}

/// Every line of the first file that no request concerns is there, in its order.
fn check_kept(written: &str, text: &str, place: &str) {
    let concerned = ["seats", "kind", "start", "effective_at", "[[change]]", "by", "cancel", "suspended"];
    let kept = |line: &&str| line.starts_with('#') || !concerned.iter().any(|key| line.starts_with(key));
    let mut lines = text.lines();
    for line in written.lines().filter(kept).filter(|line| !line.is_empty()) {
        assert!(lines.any(|other| other == line), "{place}: lost `{line}`\n{text}");
    }
}

#[test]
fn comments_behind_a_changed_value_stay() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("usherd.toml");
    std::fs::write(&main, INLINE).unwrap();
    let upgrade = Request { actor: Actor::Customer, object: Object::Subscription, verb: Verb::Upgrade { seats: 12 } };
    let now = t("2026-11-22T12:00:00Z");
    submit(&main, "acme", &upgrade, now, false, &Contents::default()).unwrap().answer.unwrap();
    let text = std::fs::read_to_string(&main).unwrap();
    let expected = INLINE.replace(
        "kind = \"trial\"\nstart = \"2026-11-20T10:00:00\"\n",
        "kind = \"paid\"\nstart = \"2026-11-22\"\nseats = 12\n",
    );
    assert_eq!(text, expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_link_stays_a_link_and_rights_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("acme.real");
    std::fs::write(&real, ACME).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    let link = folder.path().join("tenants.d/acme.toml");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let main = folder.path().join("usherd.toml");
    std::fs::write(&main, "").unwrap();
    let add = Request { actor: Actor::Customer, object: Object::Subscription, verb: Verb::Add { seats: 1 } };
    submit(&main, "acme", &add, t("2026-11-22T12:00:00Z"), false, &Contents::default()).unwrap().answer.unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(std::fs::read_to_string(&real).unwrap().contains("seats = 17"));
}

#[test]
fn requests_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("usherd.toml");
    std::fs::write(&main, "tenants_dir = \"\"\n[[tenant]]\nid = \"acme\"\nkind = \"paid\"\nseats = 1\n").unwrap();
    let add = Request { actor: Actor::Customer, object: Object::Subscription, verb: Verb::Add { seats: 1 } };
    let now = t("2026-11-22T12:00:00Z");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (main, add) = (&main, &add);
            scope.spawn(move || {
                for m in 0..10 {
                    let at = now + Duration::seconds(n * 100 + m);
                    submit(main, "acme", add, at, false, &Contents::default()).unwrap().answer.unwrap();
                }
            });
        }
    });
    let tenant = load(&main, now).unwrap().tenants["acme"].clone();
    assert_eq!(tenant.record.changes.len(), 80, "no request was lost");
}

#[test]
fn what_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("usherd.toml");
    let add = Request { actor: Actor::Customer, object: Object::Subscription, verb: Verb::Add { seats: 1 } };
    let now = t("2026-11-22T12:00:00Z");
    let missing = submit(&main, "acme", &add, now, false, &Contents::default()).unwrap_err();
    assert!(
        matches!(&missing, Unwritten::Invalid(problems) if problems[0].message.contains("does not exist")),
        "{missing:?}"
    );
    std::fs::write(&main, INLINE).unwrap();
    assert!(matches!(submit(&main, "nobody", &add, now, false, &Contents::default()), Err(Unwritten::UnknownTenant)));
    // Keys in one line cannot be found by name as tables are.
    std::fs::write(&main, "tenants_dir = \"\"\ntenant = [{ id = \"acme\", kind = \"paid\", seats = 3 }]\n").unwrap();
    let inline = submit(&main, "acme", &add, now, false, &Contents::default()).unwrap_err();
    assert!(matches!(&inline, Unwritten::File(why) if why.contains("[[tenant]]")), "{inline:?}");
}
