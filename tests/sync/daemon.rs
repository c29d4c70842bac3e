//! Records on their way into a running daemon: taken, confirmed, refused, remembered, stale.

use chrono::Duration;
use usherd::daemon::sync::sign::SigningKey;

use crate::bundles::{Desk, key, noon};
use crate::office::Office;
use crate::publisher::{Manner, Publisher};

fn paid(seats: u32) -> String {
    format!("kind = \"paid\"\nseats = {seats}\n")
}

/// A bundle of seven tenants, of whom the first has so many seats.
fn desk(serial: u64, seats: u32) -> Desk {
    let mut desk = Desk::new(serial, &[("acme", &paid(seats))]);
    let others = ["bolt", "cord", "dune", "elm", "fern", "gale"];
    desk.records.extend(others.map(|id| (id.to_owned(), paid(5))));
    desk
}

fn sealed(serial: u64, seats: u32) -> Vec<u8> {
    desk(serial, seats).seal(&key(1))
}

fn with(serial: u64, change: impl FnOnce(&mut Desk)) -> Vec<u8> {
    let mut desk = desk(serial, 4);
    change(&mut desk);
    desk.seal(&key(1))
}

#[test]
fn records_are_pulled_at_the_start_and_then_asked_for_news_only() {
    let publisher = Publisher::start(sealed(1, 3));
    let office = Office::start(&publisher, "token_file = \"token\"\n");
    assert_eq!(office.counted("failed"), 1, "without the token nobody is asked");
    std::fs::write(office.daemon.path("token"), "s3cret\n").unwrap();
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(3)));
    assert!(publisher.last_head().contains("authorization: Bearer s3cret\r\n"));
    assert_eq!(office.get("/v1/admin/config")["tenants"]["acme"], "sync:acme.toml");
    assert_eq!(office.pull(), "unchanged");
    assert_eq!(publisher.not_modified(), 1);
    publisher.publish(sealed(2, 9));
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(9)));
    assert_eq!(office.sync()["serial"], 2);
    // The same records again: nothing to install, but the serial counts.
    publisher.publish(sealed(3, 9));
    let hash = office.get("/v1/overview")["config"]["hash"].clone();
    assert_eq!(office.pull(), "applied");
    assert_eq!((office.sync()["serial"].as_u64(), &office.get("/v1/overview")["config"]["hash"]), (Some(3), &hash));
    assert_eq!(office.series("usherd_config_reloads_total{result=\"applied\",trigger=\"sync\"}"), 2.0);
    let at = noon().timestamp() as f64 + 40.0;
    assert_eq!(office.series("usherd_sync_last_success_timestamp_seconds"), at);
    assert!(!format!("{}{:?}", office.sync(), office.call("GET", "/metrics", "")).contains("s3cret"));
    // A reload of the files keeps what was pulled.
    std::fs::write(office.daemon.path("tenants.d/dock.toml"), paid(7)).unwrap();
    let (status, body) = office.call("POST", "/v1/admin/reload", "");
    assert_eq!((status, office.quota("dock"), office.quota("acme")), (200, Some(7), Some(9)), "{body}");
}

#[test]
fn a_refused_bundle_changes_nothing_and_is_counted_i20_i23() {
    let publisher = Publisher::start(sealed(7, 3));
    let office = Office::start(&publisher, "bundle_bytes_max = 4096\n");
    std::fs::write(office.daemon.path("tenants.d/dock.toml"), paid(7)).unwrap();
    office.wait("the file", |office| office.quota("dock") == Some(7));
    let (picture, good) = (office.picture(), sealed(8, 4));
    let line = good.iter().position(|byte| *byte == b'\n').unwrap();
    let mut flipped = good.clone();
    flipped[line + 40] ^= 1;
    let forged: SigningKey = key(9);
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("bad_signature", desk(8, 4).seal(&forged)),
        ("bad_signature", flipped),
        ("bad_signature", good[..good.len() - 7].to_vec()),
        ("malformed", good[..line].to_vec()),
        ("malformed", b"<html>Sign in to the hotel's network</html>".to_vec()),
        ("unknown_key", key(1).seal("2031z", &desk(8, 4).payload())),
        ("wrong_installation", with(8, |desk| desk.installation = "hamburg-1".to_owned())),
        ("expired", with(8, |desk| (desk.not_before, desk.expires) = (noon() - Duration::days(2), noon()))),
        ("not_yet_valid", with(8, |desk| desk.not_before = noon() + Duration::hours(1))),
        ("replayed", sealed(6, 3)),
        ("replayed", sealed(7, 4)),
        ("broken_chain", with(8, |desk| desk.previous = Some([1; 32]))),
        ("too_large", with(8, |desk| _ = desk.records.insert("big".to_owned(), "#".repeat(8_000)))),
        ("bad_record", with(8, |desk| _ = desk.records.insert("No Id".to_owned(), paid(1)))),
        ("rejected", with(8, |desk| _ = desk.records.insert("acme".to_owned(), "seats = -1".to_owned()))),
        ("rejected", with(8, |desk| _ = desk.records.insert("dock".to_owned(), paid(1)))),
        ("shrinks", with(8, |desk| desk.records.retain(|id, _| id == "acme"))),
    ];
    let mut refused = 0;
    for (code, bytes) in rows {
        publisher.publish(bytes);
        assert_eq!(office.pull(), format!("refused {code}"), "{}", office.sync());
        refused += 1;
        assert_eq!((office.picture(), office.counted("refused")), (picture.clone(), refused), "{code}");
    }
    publisher.publish(good.clone());
    publisher.behave(Manner::Flood);
    assert_eq!(office.pull(), "refused too_large");
    for (failed, manner) in [
        Manner::Status("500 Internal Server Error"),
        Manner::Status("204 No Content"),
        Manner::Status("302 Found\r\nLocation: https://localhost/"),
        Manner::Hang,
        Manner::Cut,
        Manner::Garbage,
        Manner::WrongName,
        Manner::Down,
    ]
    .into_iter()
    .enumerate()
    {
        publisher.behave(manner.clone());
        assert_eq!(office.pull(), "failed", "{manner:?}: {}", office.sync());
        assert_eq!((office.picture(), office.counted("failed")), (picture.clone(), failed as u64 + 1), "{manner:?}");
    }
    // Told of each change, and of nothing twice: of 27 tries, 8 failed in a row.
    assert_eq!(office.events().iter().filter(|word| *word == "failed").count(), 1);
    publisher.behave(Manner::Serve);
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(4)));
}

#[test]
fn a_restart_offline_keeps_everything_and_the_ratchet_i23() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    publisher.publish(sealed(6, 4));
    assert_eq!(office.pull(), "applied");
    let picture = office.picture();
    publisher.behave(Manner::Down);
    office.restart();
    assert_eq!((office.quota("acme"), office.counted("failed")), (Some(4), 1));
    assert_eq!(office.picture(), picture);
    publisher.publish(sealed(5, 3));
    assert_eq!(office.pull(), "refused replayed");
    publisher.publish(sealed(6, 4));
    assert_eq!(office.pull(), "unchanged");
}

#[test]
fn a_bad_stored_bundle_gives_way_to_the_last_good_copy_i21_i23() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    publisher.publish(sealed(6, 4));
    assert_eq!(office.pull(), "applied");
    let from_last_good = |office: &Office| office.get("/v1/overview")["config"]["from_last_good"].clone();
    for damage in [sealed(5, 3), desk(6, 9).seal(&key(9)), sealed(6, 4)[..200].to_vec(), Vec::new()] {
        publisher.behave(Manner::Down);
        office.restart_after(|sync| std::fs::write(sync.join("bundle"), &damage).unwrap());
        assert_eq!((office.quota("acme"), from_last_good(&office)), (Some(4), true.into()));
        assert!(office.sync()["serial"].is_null());
        publisher.publish(sealed(6, 4));
        assert_eq!((office.pull(), from_last_good(&office)), ("applied".to_owned(), false.into()));
        assert_eq!((office.quota("acme"), office.sync()["serial"].as_u64()), (Some(4), Some(6)));
    }
    // The copy is as old as the last confirmation, and without one the daemon starts with what there is.
    publisher.behave(Manner::Down);
    assert_eq!(office.pull_after(31 * 86_400), "failed");
    office.restart_after(|sync| std::fs::write(sync.join("bundle"), "damage").unwrap());
    assert_eq!(office.explained("acme"), "deny.inactive");
    office.restart_after(|sync| std::fs::remove_dir_all(sync.with_file_name("last-good")).unwrap());
    assert_eq!(office.quota("acme"), None);
    publisher.publish(sealed(6, 4));
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(4)));
}

#[test]
fn the_journal_remembers_the_serial_when_the_files_are_gone_i23() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    assert_eq!(office.quota("acme"), Some(3));
    for _ in 0..2 {
        // Each start takes a snapshot: the serial outlives the records that it stood in.
        publisher.publish(sealed(4, 9));
        office.restart_after(|sync| {
            std::fs::remove_dir_all(sync.with_file_name("last-good")).unwrap_or_default();
            std::fs::remove_dir_all(sync).unwrap_or_default();
        });
        assert_eq!((office.quota("acme"), office.sync()["code"].as_str()), (None, Some("replayed")));
    }
    publisher.publish(sealed(6, 9));
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(9)));
}

#[test]
fn what_is_lost_is_taken_again_and_its_tenants_stay_meanwhile() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    let state = |office: &Office| (office.quota("acme"), office.sync()["serial"].as_u64());
    assert_eq!(state(&office), (Some(3), Some(5)));
    // Nobody is there: the last good records hold.
    publisher.behave(Manner::Down);
    office.restart_after(|sync| std::fs::remove_dir_all(sync).unwrap());
    assert_eq!(state(&office), (Some(3), None));
    // The journal remembers the serial, and that bundle is the one that is missing.
    publisher.publish(sealed(5, 3));
    assert_eq!((office.pull(), state(&office)), ("applied".to_owned(), (Some(3), Some(5))));
    assert_eq!(office.get("/v1/overview")["config"]["from_last_good"], false);
    assert_eq!(office.pull(), "unchanged");
    // Neither an older one nor another one of that serial is.
    for older in [sealed(4, 9), sealed(5, 9)] {
        publisher.publish(older);
        assert_eq!(office.pull(), "refused replayed");
    }
    publisher.publish(sealed(5, 3));
    for keep_last_good in [true, false] {
        office.restart_after(|sync| {
            if !keep_last_good {
                std::fs::remove_dir_all(sync.with_file_name("last-good")).unwrap();
            }
            std::fs::remove_dir_all(sync).unwrap();
        });
        assert_eq!(state(&office), (Some(3), Some(5)), "at the first try");
    }
}

#[test]
fn why_a_publisher_is_not_trusted_is_said_in_words() {
    let publisher = Publisher::start(sealed(5, 3));
    let office = Office::start(&publisher, "");
    for (manner, words) in [
        (Manner::OwnAuthority, ["self-signed as that of an authority", "basicConstraints=critical,CA:FALSE"]),
        (Manner::SelfSigned, ["signed by no authority that is trusted here", "in the file sync.ca_file"]),
        (Manner::WrongName, ["for another name", "elsewhere.example"]),
    ] {
        publisher.behave(manner.clone());
        assert_eq!(office.pull(), "failed", "{manner:?}");
        let message = office.sync()["message"].as_str().unwrap_or_default().to_owned();
        assert!(words.iter().all(|word| message.contains(word)), "{manner:?}: {message}");
        // The failures before were told already.
        publisher.behave(Manner::Serve);
        assert_eq!(office.pull(), "unchanged");
    }
}

#[test]
fn a_crash_between_ratchet_and_bundle_costs_nothing() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    let old = std::fs::read(office.daemon.path("state/sync/bundle")).unwrap();
    publisher.publish(sealed(6, 4));
    assert_eq!(office.pull(), "applied");
    publisher.behave(Manner::Down);
    office.restart_after(|sync| {
        let ratchet = std::fs::read_to_string(sync.join("ratchet.json")).unwrap();
        let replaces = usherd::daemon::text::hex(&desk(5, 3).hash());
        let torn = ratchet.replace("\"replaces\":\"\"", &format!("\"replaces\":\"{replaces}\""));
        assert_ne!(torn, ratchet);
        std::fs::write(sync.join("ratchet.json"), torn).unwrap();
        std::fs::write(sync.join("bundle"), old).unwrap();
    });
    assert_eq!(office.quota("acme"), Some(3), "the one before is still good");
    publisher.publish(sealed(6, 4));
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(4)));
}

#[test]
fn records_unconfirmed_for_30_days_are_inbound_only_t116_j7() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    assert_eq!(office.explained("acme"), "allow.new");
    let day = 86_400;
    assert_eq!(office.pull_after(10 * day), "unchanged");
    publisher.behave(Manner::Down);
    assert_eq!(office.pull_after(30 * day - 20), "failed");
    assert_eq!((office.explained("acme"), office.sync()["stale"].as_bool()), ("allow.new".to_owned(), Some(false)));
    assert_eq!(office.pull_after(20), "failed");
    office.wait("the instant", |office| office.explained("acme") == "deny.inactive");
    assert_eq!(office.sync()["stale"], true);
    assert_eq!(office.series("usherd_subscriptions{state=\"stale\"}"), 7.0);
    office.restart();
    assert_eq!(office.explained("acme"), "deny.inactive", "a restart confirms nothing");
    publisher.behave(Manner::Serve);
    assert_eq!((office.pull(), office.explained("acme")), ("unchanged".to_owned(), "allow.new".to_owned()));
    // The new confirmation has its own 30 days.
    publisher.behave(Manner::Down);
    assert_eq!(office.pull_after(30 * day), "failed");
    office.wait("the instant", |office| office.explained("acme") == "deny.inactive");
    assert_eq!(office.explained("nobody"), "deny.unknown_tenant");
    // What has expired is not kept alive by "nothing is new", only by something new.
    publisher.behave(Manner::Serve);
    assert_eq!(office.pull_after(20 * day), "refused expired");
    assert_eq!(office.explained("acme"), "deny.inactive");
    publisher.publish(with(6, |desk| desk.expires = noon() + Duration::days(400)));
    assert_eq!((office.pull(), office.explained("acme")), ("applied".to_owned(), "allow.new".to_owned()));
}

#[test]
fn a_bundle_is_in_force_only_once_it_can_be_stored_i23() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    let files = office.picture();
    publisher.publish(sealed(6, 4));
    for (name, at_rest) in [("ratchet.json", true), ("bundle", false)] {
        let temporary = format!(".{name}.{}.tmp", std::process::id());
        let in_the_way = office.daemon.path("state/sync").join(temporary);
        std::fs::create_dir(&in_the_way).unwrap();
        assert_eq!(office.pull(), "failed", "{}", office.sync());
        assert_eq!((office.quota("acme"), office.sync()["serial"].as_u64()), (Some(3), Some(5)), "{name}");
        assert!(!at_rest || office.picture() == files, "{name}");
        std::fs::remove_dir(&in_the_way).unwrap();
    }
    // The ratchet is ahead now, and neither a restart nor the bundle itself suffers from it.
    publisher.behave(Manner::Down);
    office.restart();
    assert_eq!((office.quota("acme"), office.sync()["serial"].as_u64()), (Some(3), Some(5)));
    publisher.behave(Manner::Serve);
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(4)));
}

#[test]
fn a_bad_file_at_the_start_is_no_matter_of_the_records_i21() {
    let publisher = Publisher::start(sealed(5, 3));
    let mut office = Office::start(&publisher, "");
    publisher.behave(Manner::Down);
    let file = office.daemon.path("tenants.d/dock.toml");
    std::fs::write(&file, "seats = -1").unwrap();
    office.restart();
    assert_eq!((office.quota("acme"), office.quota("dock")), (Some(3), None));
    let config = office.get("/v1/overview")["config"].clone();
    assert_eq!((&config["from_last_good"], &config["tenants_rejected"]), (&false.into(), &1.into()));
    assert_eq!(office.pull_after(30 * 86_400), "failed");
    office.wait("the instant", |office| office.explained("acme") == "deny.inactive");
    // Neither what is confirmed nor what is new waits for the file.
    publisher.behave(Manner::Serve);
    assert_eq!((office.pull(), office.explained("acme")), ("unchanged".to_owned(), "allow.new".to_owned()));
    publisher.publish(sealed(6, 4));
    assert_eq!((office.pull(), office.quota("acme"), office.quota("dock")), ("applied".to_owned(), Some(4), None));
    std::fs::write(&file, paid(2)).unwrap();
    office.wait("the file", |office| office.quota("dock") == Some(2));
    // The daemon's own file is one unit with all that stands beside it.
    let main = office.daemon.path("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("{text}\n[polcy]\n")).unwrap();
    publisher.publish(sealed(7, 9));
    assert_eq!((office.pull(), office.quota("acme")), ("refused rejected".to_owned(), Some(4)));
    office.restart();
    assert_eq!(office.get("/v1/overview")["config"]["from_last_good"], true);
    assert_eq!((office.quota("acme"), office.quota("dock")), (Some(4), Some(2)));
    std::fs::write(&main, text).unwrap();
    assert_eq!((office.pull(), office.quota("acme")), ("applied".to_owned(), Some(9)));
}

#[test]
fn what_a_record_says_of_its_own_confirmation_does_not_count_j7() {
    let old = "synced_at = \"2020-01-01T00:00:00Z\"\n".to_owned() + &paid(3);
    let new = "synced_at = \"2036-01-01T00:00:00Z\"\n".to_owned() + &paid(3);
    let publisher = Publisher::start(Desk::new(1, &[("old", &old), ("new", &new)]).seal(&key(1)));
    let office = Office::start(&publisher, "");
    assert_eq!(["old", "new"].map(|tenant| office.explained(tenant)), ["allow.new", "allow.new"]);
    publisher.behave(Manner::Down);
    office.pull_after(30 * 86_400);
    office.wait("the instant", |office| office.explained("new") == "deny.inactive");
    assert_eq!(office.explained("old"), "deny.inactive");
}

#[test]
fn switching_sync_off_pulls_nothing_and_drops_its_tenants() {
    let publisher = Publisher::start(sealed(5, 3));
    let office = Office::start(&publisher, "");
    let main = office.daemon.path("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, text.replace(&publisher.url(), "")).unwrap();
    let (status, body) = office.call("POST", "/v1/admin/reload", "");
    assert_eq!((status, office.quota("acme")), (422, Some(3)), "{body}");
    let (status, body) = office.call("POST", "/v1/admin/reload?force=1", "");
    assert_eq!((status, office.quota("acme"), office.sync().is_null()), (200, None, true), "{body}");
    // A key that is not trusted any more takes its records with it, in the same way.
    std::fs::write(&main, text.replace("2026a", "2027a")).unwrap();
    let (status, body) = office.call("POST", "/v1/admin/reload", "");
    assert_eq!((status, office.quota("acme")), (200, None), "{body}");
}

const DAY: u64 = 86_400;
const YEARS_MS: i64 = 4 * 365 * 86_400_000;

/// A daemon that was confirmed after ten days and cannot ask any more; its bundle is good for years.
fn confirmed_and_alone() -> (Publisher, Office) {
    let publisher = Publisher::start(with(5, |desk| desk.expires = noon() + Duration::days(4_000)));
    let office = Office::start(&publisher, "");
    assert_eq!(office.pull_after(10 * DAY), "unchanged");
    publisher.behave(Manner::Down);
    (publisher, office)
}

fn is_trusted(office: &Office) -> bool {
    office.get("/v1/overview")["time"]["wall_clock_trusted"] == true
}

/// Lets the ten minutes pass after which a clock is trusted that is where it was.
fn until_trusted(office: &Office) {
    office.daemon.clock.advance(600_000);
    office.wait("the clock to be trusted", is_trusted);
}

fn in_force(office: &Office) -> (String, Option<bool>) {
    (office.explained("acme"), office.sync()["stale"].as_bool())
}

fn good() -> (String, Option<bool>) {
    ("allow.new".to_owned(), Some(false))
}

#[test]
fn a_start_with_a_past_clock_expires_no_confirmation_h5() {
    let (_publisher, mut office) = confirmed_and_alone();
    let confirmed = office.sync()["confirmed_at"].clone();
    let clock = std::sync::Arc::clone(&office.daemon.clock);
    office.restart_after(|_| clock.step_wall(-YEARS_MS));
    assert_eq!(in_force(&office), good());
    // The time service comes late.
    clock.step_wall(YEARS_MS);
    office.wait("the step to be seen", |office| office.get("/v1/overview")["time"]["clock_steps"] == 2);
    assert_eq!(in_force(&office), good());
    until_trusted(&office);
    assert_eq!((in_force(&office), &office.sync()["confirmed_at"]), (good(), &confirmed));
}

#[test]
fn no_confirmation_runs_out_while_nobody_trusts_the_clock_h5() {
    let (publisher, mut office) = confirmed_and_alone();
    let clock = std::sync::Arc::clone(&office.daemon.clock);
    office.restart_after(|_| clock.step_wall(YEARS_MS));
    assert_eq!(in_force(&office), good());
    // Nor may it be confirmed: the certificate of the publisher is no better than the clock it is looked at with.
    assert_eq!(office.pull_after(40 * DAY), "failed");
    assert_eq!(in_force(&office), good());
    assert_eq!(office.call("POST", "/v1/admin/clock/trust", "").0, 200);
    office.wait("the clock to be trusted", is_trusted);
    office.wait("it to be stale", |office| office.explained("acme") == "deny.inactive");
    assert_eq!(office.sync()["stale"], true);
    publisher.behave(Manner::Serve);
    assert_eq!((office.pull(), in_force(&office)), ("unchanged".to_owned(), good()));
}

#[test]
fn a_confirmation_years_ahead_is_dated_anew_by_a_right_clock() {
    let (publisher, mut office) = confirmed_and_alone();
    let clock = std::sync::Arc::clone(&office.daemon.clock);
    publisher.behave(Manner::Serve);
    office.restart_after(|_| clock.step_wall(YEARS_MS));
    assert_eq!((office.sync()["result"].as_str(), in_force(&office)), (Some("unchanged"), good()));
    publisher.behave(Manner::Down);
    clock.step_wall(-YEARS_MS);
    office.wait("the step to be seen", |office| office.get("/v1/overview")["time"]["clock_steps"] == 2);
    until_trusted(&office);
    let day = noon() + Duration::days(10);
    assert!(office.sync()["confirmed_at"].as_str().unwrap().starts_with(&day.format("%Y-%m-%dT").to_string()));
    assert_eq!(in_force(&office), good());
    assert_eq!(office.pull_after(31 * DAY), "failed");
    office.wait("it to be stale", |office| office.explained("acme") == "deny.inactive");
}
