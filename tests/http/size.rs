//! `GET /v1/size`: the figures of the command line, and faults that name the parameter.

use crate::daemon::Running;

#[test]
fn a_mix_is_sized() {
    let daemon = Running::start("", &[]);
    let answer = daemon.get("/v1/size?types=5,10,5,10").json();
    for (key, value) in [("employees", 30), ("tenths", 160), ("seats", 16), ("safe_seats", 20)] {
        assert_eq!(answer[key], value, "{key}");
    }
    let risk = answer["risk"].as_array().unwrap();
    assert_eq!((risk.len(), &risk[4]["seats"]), (6, &20.into()));
    assert!((risk[4]["probability"].as_f64().unwrap() - 0.0090).abs() < 0.00005, "{answer}");
    let most = daemon.get("/v1/size?types=0,50000,50000,0").json()["risk"].as_array().unwrap().len();
    assert!((40..=50).contains(&most), "{most}");
}

#[test]
fn a_mix_that_makes_no_sense_is_400() {
    let daemon = Running::start("", &[]);
    for (query, word) in [
        ("", "four whole numbers"),
        ("?types=5,10,5", "four whole numbers"),
        ("?types=5,10,5,10,1", "four whole numbers"),
        ("?types=5,-1,5,10", "four whole numbers"),
        ("?types=5,1.5,5,10", "four whole numbers"),
        ("?types=5,10,5,1000001", "type 4"),
        ("?types=0,0,100000,1", "at most 100000"),
    ] {
        let answer = daemon.get(&format!("/v1/size{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        let error = &answer.json()["errors"][0];
        assert_eq!(error["pointer"], "/types", "{query}");
        assert!(error["detail"].as_str().unwrap().contains(word), "{query}: {error}");
    }
}
