//! `usherd size` needs no file and no daemon.

use serde_json::Value;

use super::run;

#[test]
fn thirty_employees_are_sized() {
    let (out, _) = run(&["size", "5", "10", "5", "10"], 0);
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "30 employees need 16.0 seats on average");
    assert_eq!(rows[2], ["SEATS", "PROBABILITY", "FIGURE"]);
    assert_eq!((&rows[3][..], &rows[7][..]), (&["16", "39.64%", "brochure"][..], &["20", "0.90%", "safe"][..]));
    let (json, _) = run(&["size", "5", "10", "5", "10", "-o", "json"], 0);
    let answer: Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["employees", "risk", "safe_seats", "seats", "tenths"]);
    assert_eq!((&answer["employees"], &answer["tenths"]), (&30.into(), &160.into()));
    assert_eq!((&answer["seats"], &answer["safe_seats"]), (&16.into(), &20.into()));
    assert_eq!(answer["risk"].as_array().unwrap().len(), 6);
    assert!((answer["risk"][0]["probability"].as_f64().unwrap() - 0.396).abs() < 0.0005, "{answer}");
    let (csv, _) = run(&["size", "0", "0", "0", "1", "-o", "csv"], 0);
    assert_eq!(csv, "seats,probability,figure\n1,0.000000000,\"brochure, safe\"\n2,0.000000000,\n");
}

#[test]
fn the_target_moves_the_safe_figure() {
    for (target, safe) in [("50%", 16), ("5%", 19), ("0.01", 20), ("0.1%", 22)] {
        let (json, _) = run(&["size", "5", "10", "5", "10", "--target", target, "-o", "json"], 0);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["safe_seats"], safe, "{target}");
    }
}

#[test]
fn what_cannot_be_sized_is_said() {
    for (arguments, word) in [
        (&["size", "5", "10", "5"][..], "TYPE4"),
        (&["size", "5", "10", "5", "1000001"], "1000000"),
        (&["size", "--", "-5", "10", "5", "1"], "-5"),
        (&["size", "1", "1", "1", "1", "--target", "0%"], "0.0001%"),
        (&["size", "1", "1", "1", "1", "--target", "nan"], "0.0001%"),
        (&["size", "1", "100000", "1", "1"], "at most 100000"),
    ] {
        let (out, err) = run(arguments, 2);
        assert!(out.is_empty() && err.contains(word), "{arguments:?}: {out}{err}");
    }
}
