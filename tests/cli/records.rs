//! `records`: keys are made once, bundles are made of good files, and verdicts have an exit code.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::run;

/// A publisher's folder.
struct Desk {
    dir: tempfile::TempDir,
    public: String,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
        std::fs::write(dir.path().join("tenants.d/acme.toml"), "kind = \"paid\"\nseats = 3\n").unwrap();
        let key = dir.path().join("key");
        let (out, _) = run(&["records", "keygen", "--out", key.to_str().unwrap(), "--key-id", "2026a"], 0);
        let public = out.trim().strip_prefix("public_keys = { \"2026a\" = \"").unwrap().strip_suffix("\" }").unwrap();
        Desk { public: public.to_owned(), dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn sign(&self, serial: &str, more: &[&str], expected: i32) -> (String, String) {
        let (key, folder, bundle) = (self.path("key"), self.path("tenants.d"), self.path("bundle"));
        let mut arguments = vec!["records", "sign", "--key", &key, "--key-id", "2026a", "--installation", "berlin-1"];
        arguments.extend(["--serial", serial, "--issued", "2026-11-22T12:00:00Z", "--out", &bundle, &folder]);
        arguments.extend(more);
        run(&arguments, expected)
    }

    fn verify(&self, at: &str, installation: &str, expected: i32) -> String {
        let key = format!("2026a={}", self.public);
        let bundle = self.path("bundle");
        let arguments =
            ["records", "verify", &bundle, "--public-key", &key, "--installation", installation, "--at", at];
        run(&arguments, expected).0
    }
}

#[test]
fn a_key_is_secret_and_never_written_over() {
    let desk = Desk::new();
    let key = PathBuf::from(desk.path("key"));
    let before = std::fs::read(&key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (out, err) = run(&["records", "keygen", "--out", key.to_str().unwrap()], 1);
    assert!(out.is_empty() && err.contains("never overwritten"), "{err}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(desk.public.len(), 64);
}

#[test]
fn a_bundle_is_valid_for_the_signed_receiver_and_time() {
    let desk = Desk::new();
    let (out, _) = desk.sign("7", &["--expires-in", "30d"], 0);
    assert!(out.contains("serial 7, 1 record, until 2026-12-22 12:00:00 UTC"), "{out}");
    assert!(desk.verify("2026-12-22T11:59:59Z", "berlin-1", 0).contains(": valid: key 2026a, serial 7, 1 record"));
    for (at, installation, code) in [
        ("2026-12-22T12:00:00Z", "berlin-1", "expired"),
        ("2026-11-22T11:54:59Z", "berlin-1", "not_yet_valid"),
        ("2026-11-23T00:00:00Z", "berlin-2", "wrong_installation"),
    ] {
        let out = desk.verify(at, installation, 1);
        assert!(out.contains(&format!(": {code}: ")) && out.contains("help: "), "{out}");
    }
    let mut bytes = std::fs::read(desk.path("bundle")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(desk.path("bundle"), bytes).unwrap();
    assert!(desk.verify("2026-11-23T00:00:00Z", "berlin-1", 1).contains(": bad_signature: "));
}

#[test]
fn a_configuration_says_whose_signature_counts() {
    let desk = Desk::new();
    desk.sign("7", &[], 0);
    let main = desk.path("usherd.toml");
    let lines = format!(
        "[sync]\nurl = \"https://a/b\"\ninstallation = \"berlin-1\"\npublic_keys = {{ \"2026a\" = \"{}\" }}\n",
        desk.public
    );
    std::fs::write(&main, &lines).unwrap();
    let bundle = desk.path("bundle");
    let at = "2026-11-23T00:00:00Z";
    let (json, _) = run(&["records", "verify", &bundle, "--config", &main, "--at", at, "-o", "json"], 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["serial"], 7);
    std::fs::write(&main, lines.replace("2026a", "2025z")).unwrap();
    let (out, _) = run(&["records", "verify", &bundle, "--config", &main, "--at", at], 1);
    assert!(out.contains("unknown_key"), "{out}");
    std::fs::write(&main, "").unwrap();
    let (_, err) = run(&["records", "verify", &bundle, "--config", &main, "--at", at], 78);
    assert!(err.contains("sync.public_keys"), "{err}");
}

#[test]
fn bad_records_are_not_signed() {
    let desk = Desk::new();
    std::fs::write(desk.path("tenants.d/bolt.toml"), "kind = \"paid\"\nseats = 3\npool = \"provider\"\n").unwrap();
    let (_, err) = desk.sign("7", &[], 78);
    assert!(err.contains("bolt.toml") && err.contains("pool") && !PathBuf::from(desk.path("bundle")).exists(), "{err}");
    // An installation that has the pool takes them.
    let main = desk.path("usherd.toml");
    std::fs::write(
        &main,
        "[[pool]]\nid = \"provider\"\nseats = 10\n[[tenant]]\nid = \"acme\"\nkind = \"nfr\"\nseats = 1\n",
    )
    .unwrap();
    desk.sign("7", &["--config", &main], 0);
    let first = desk.path("first");
    std::fs::copy(desk.path("bundle"), &first).unwrap();
    let (_, err) = desk.sign("7", &["--config", &main, "--previous", &first], 2);
    assert!(err.contains("--serial 7 is not above 7"), "{err}");
    desk.sign("8", &["--config", &main, "--previous", &first], 0);
    let text = String::from_utf8(std::fs::read(desk.path("bundle")).unwrap()).unwrap();
    assert!(!text.contains("\"previous\":\"\""), "{text}");
}
