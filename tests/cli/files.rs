//! Verbs that read the files and need no daemon.

use super::{run, shipped};

#[test]
fn the_shipped_configuration_is_good() {
    let config = shipped("config/usherd.toml");
    let (out, _) = run(&["config", "check", &config], 0);
    assert!(out.starts_with(&config) && out.contains(": valid, "), "{out}");
    let (json, _) = run(&["config", "check", &shipped("config"), "-o", "json"], 0);
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["checked"][0]["ok"], true);
}

#[test]
fn the_samples_of_a_cluster_are_good_and_alike() {
    let samples = [1, 2, 3].map(|number| {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("usherd.toml");
        std::fs::copy(shipped(&format!("config/cluster/member-{number}.toml")), &config).unwrap();
        std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
        std::fs::write(dir.path().join("cluster.token"), "5".repeat(64)).unwrap();
        let (out, _) = run(&["config", "check", config.to_str().unwrap()], 0);
        assert!(out.contains(": valid, ") && !out.contains("warning"), "{out}");
        std::fs::read_to_string(config).unwrap()
    });
    let alike = |number: usize, text: &str| {
        let lines = text.lines().skip(1).filter(|line| !line.starts_with("endpoints"));
        let own = |line: &str| {
            let of_all = line.replace(&format!("10.0.1.{number}:"), "ADDRESS:");
            of_all.replace(&format!("usherd-{number}"), "NAME")
        };
        lines.map(own).collect::<Vec<_>>()
    };
    assert_eq!(alike(1, &samples[0]), alike(2, &samples[1]));
    assert_eq!(alike(1, &samples[0]), alike(3, &samples[2]));
}

#[test]
fn every_error_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("usherd.toml");
    std::fs::write(&config, "tenants_dir = \"\"\n[server]\nlissten = \"127.0.0.1:1\"\nworkers = \"many\"\n").unwrap();
    let (out, _) = run(&["config", "check", config.to_str().unwrap()], 78);
    assert!(
        out.contains("usherd.toml:3") && out.contains("usherd.toml:4") && out.contains("did you mean `listen`"),
        "{out}"
    );
    let (csv, _) = run(&["config", "check", config.to_str().unwrap(), "-o", "csv"], 78);
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let (out, err) = run(&["config", "show", "--config", config.to_str().unwrap()], 78);
    assert!(out.is_empty() && err.contains("usherd.toml:3"), "{out}{err}");
}

#[test]
fn a_warning_is_told_and_the_configuration_good() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("usherd.toml");
    let tenant = "[[tenant]]\nid = \"a\"\nkind = \"trial\"\nstart = \"2035-01-08\"\ncancel_at = \"2036-01-08\"\n";
    std::fs::write(&config, format!("tenants_dir = \"\"\n{tenant}")).unwrap();
    let config = config.to_str().unwrap();
    let (out, _) = run(&["config", "check", config], 0);
    assert!(
        out.contains(": valid, 1 tenant")
            && out.contains("warning[explicit_instant]: ")
            && out.contains("2 warnings\n"),
        "{out}"
    );
    let (json, _) = run(&["config", "check", config, "-o", "json"], 0);
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["checked"][0]["warnings"][1]["code"], "explicit_instant");
    let (csv, _) = run(&["config", "check", config, "-o", "csv"], 0);
    assert!(csv.ends_with(",warning,explicit_instant\n"), "{csv}");
}

#[test]
fn a_token_is_judged_as_the_daemon_judges_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (dir.path().join("usherd.toml"), dir.path().join("token"));
    let token = format!("ush_node_{}", "5".repeat(64));
    let digest = |token: &str| usherd::daemon::access::auth::TokenHash::of(token).to_hex();
    let configured = |token: &str| {
        let entry = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{}\"\n", digest(token));
        std::fs::write(&config, format!("tenants_dir = \"\"\n{entry}")).unwrap();
    };
    let check = |shown: &str, expected: i32| {
        std::fs::write(&file, format!("{shown}\n")).unwrap();
        run(&["config", "check", config.to_str().unwrap(), "--token-file", file.to_str().unwrap()], expected).0
    };
    configured(&token);
    assert!(check(&token, 0).contains("the token is n, role node"));
    assert!(check(&token.replace("5", "6"), 1).contains("not one of [[auth.tokens]]"));
    configured("secret123");
    assert!(check("secret123", 1).contains("ush_ROLE_ and 64 hexadecimal digits"), "a home-made one");
    configured(&format!("{token}\n"));
    assert!(check(&token, 1).contains("with a line end"));
    let admin = token.replace("node", "admin");
    configured(&admin);
    assert!(check(&admin, 1).contains("says role admin, and `n` of [[auth.tokens]] has role node"));
}

#[test]
fn a_certificate_whose_key_does_not_fit_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("usherd.toml");
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((cert, key), (_, other)) = (make(), make());
    let listener = "[[listener]]\nlisten = \"127.0.0.1:7999\"\ntls = { cert_file = \"c.pem\", key_file = \"k.pem\" }\n";
    std::fs::write(&config, format!("tenants_dir = \"\"\n{listener}")).unwrap();
    std::fs::write(dir.path().join("c.pem"), cert).unwrap();
    for (key, expected) in [(&key, 0), (&other, 1), (&key, 0)] {
        std::fs::write(dir.path().join("k.pem"), key).unwrap();
        let (out, _) = run(&["config", "check", config.to_str().unwrap()], expected);
        assert_eq!(out.contains("error[certificate]: the certificate and the key"), expected == 1, "{out}");
        let config = config.to_str().unwrap();
        let (out, _) = run(&["doctor", "--addr", "127.0.0.1:1", "--config", config, "-o", "json"], 1);
        assert_eq!(out.contains("would not start again"), expected == 1, "{out}");
    }
}

#[test]
fn a_second_trial_is_seen_where_the_state_directory_is_t091() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("state")).unwrap();
    let (config, accounts) = (dir.path().join("usherd.toml"), dir.path().join("state/accounts.json"));
    let tenant = "[[tenant]]\nid = \"acme\"\nkind = \"trial\"\nstart = \"2026-11-20T10:00:00\"\n";
    std::fs::write(&config, format!("tenants_dir = \"\"\n[server]\nstate_dir = \"state\"\n{tenant}")).unwrap();
    let config = config.to_str().unwrap();
    let (out, _) = run(&["config", "check", config], 0);
    assert!(out.contains("whether a trial is the first of its account is unknown"), "{out}");
    let remember = |start: &str| {
        let text = format!("{{\"format\":1,\"tenants\":{{\"acme\":{{\"trial\":\"{start}\"}}}}}}");
        std::fs::write(&accounts, text).unwrap();
    };
    remember("2026-11-20T10:00:00");
    let (out, _) = run(&["config", "check", config], 0);
    assert!(!out.contains("nobody knows"), "{out}");
    remember("2026-01-20T10:00:00");
    let (out, _) = run(&["config", "check", config], 78);
    assert!(out.contains("is set to trial again, but its trial started at 2026-01-20T10:00:00"), "{out}");
}

#[test]
fn a_new_configuration_is_good_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/usherd.toml");
    let path = path.to_str().unwrap();
    run(&["config", "init", path], 0);
    run(&["config", "check", path], 0);
    let (_, err) = run(&["config", "init", path], 1);
    assert!(err.contains("exists already") && err.contains("--force"), "{err}");
    run(&["config", "init", path, "--force"], 0);
    let (out, _) = run(&["config", "init", "-"], 0);
    assert_eq!(out, std::fs::read_to_string(shipped("config/usherd.toml")).unwrap());
}

#[test]
fn a_tenant_file_stands_for_the_configuration_above_it() {
    let folder = shipped("config/tenants.d");
    let file = std::fs::read_dir(folder).unwrap().flatten().next().unwrap().path();
    let (out, _) = run(&["config", "check", file.to_str().unwrap()], 0);
    assert!(out.contains("usherd.toml: valid"), "{out}");
}

#[test]
fn every_value_says_where_it_comes_from() {
    let config = shipped("config/usherd.toml");
    let (out, _) = run(&["config", "show", "--origin", "--config", &config], 0);
    let line = out.lines().find(|line| line.starts_with("nodes.lease_s ")).unwrap();
    assert!(line.contains("15") && line.contains("usherd.toml:"), "{line}");
    let (csv, _) = run(&["config", "show", "-o", "csv", "--config", &config], 0);
    assert!(csv.starts_with("key,value\n"), "{csv}");
    let (_, err) = run(&["config", "show", "--tenant", "nobody", "--config", &config], 78);
    assert!(err.contains("no tenant \"nobody\""), "{err}");
}

#[test]
fn where_no_configuration_is_the_way_to_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("usherd.toml");
    let (out, _) = run(&["config", "check", missing.to_str().unwrap()], 78);
    assert!(out.contains("usherd config init"), "{out}");
}

#[test]
fn an_empty_journal_is_good_and_a_missing_one_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let (out, _) = run(&["journal", "verify", dir.path().to_str().unwrap()], 0);
    assert!(out.starts_with("valid: 0 records"), "{out}");
    let (out, _) = run(&["journal", "export", dir.path().to_str().unwrap()], 0);
    assert!(out.is_empty(), "{out}");
    let missing = dir.path().join("nothing");
    let (_, err) = run(&["journal", "verify", missing.to_str().unwrap()], 1);
    assert!(err.contains("there is no journal in") && !missing.exists(), "{err}");
}

#[test]
fn a_journal_that_was_changed_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    for number in [1, 2] {
        std::fs::write(dir.path().join(format!("segment-{number:016x}.log")), b"not a journal at all").unwrap();
    }
    let (out, _) = run(&["journal", "verify", dir.path().to_str().unwrap()], 1);
    assert!(out.contains("bad: segment-0000000000000001.log at byte 0") && out.contains("NOT valid: "), "{out}");
    let (json, _) = run(&["journal", "verify", dir.path().to_str().unwrap(), "-o", "json"], 1);
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&answer["good"], &answer["bad"][0]["offset"]), (&false.into(), &0.into()));
}
