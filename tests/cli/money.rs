//! `quote` and `statement`: figures without a daemon, and without any file where none is named.

use std::path::Path;

use serde_json::{Value, json};

use super::run;

fn parsed(arguments: &[&str]) -> Value {
    let (out, err) = run(&[arguments, &["-o", "json"]].concat(), 0);
    assert!(err.is_empty() && out.ends_with("}\n"), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// A configuration with these tenants.
fn files(folder: &Path, main: &str, tenants: &[(&str, &str)]) -> String {
    let path = folder.join("usherd.toml");
    std::fs::create_dir_all(folder.join("tenants.d")).unwrap();
    std::fs::write(&path, main).unwrap();
    for (id, text) in tenants {
        std::fs::write(folder.join("tenants.d").join(format!("{id}.toml")), text).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_worked_example_is_quoted_t124() {
    let quote = parsed(&["quote", "--from", "10", "--to", "16", "--on", "2026-06-16"]);
    let want = json!({
        "unit_cents": 801, "monthly_cents": 12_816, "charge_cents": 3_916, "net_cents": 1_958,
        "credit_cents": 1_958, "next_invoice_cents": 10_858,
    });
    assert_eq!(quote, want);
}

#[test]
fn a_quote_knows_trials_partners_modes_and_larger_packets() {
    let first = parsed(&["quote", "--to", "16", "--on", "2026-06-16", "--partner", "excellence"]);
    let want = json!({
        "unit_cents": 801, "monthly_cents": 12_816, "charge_cents": 12_816, "net_cents": 6_408,
        "credit_cents": 6_408, "next_invoice_cents": 6_408, "commission_cents": 3_204, "wholesale_cents": 9_612,
    });
    assert_eq!(first, want);
    let graduated = parsed(&["quote", "--from", "10", "--to", "16", "--on", "2026-06-16", "--price-mode", "graduated"]);
    assert_eq!((&graduated["monthly_cents"], &graduated["next_invoice_cents"]), (&json!(13_706), &json!(11_303)));
    let ten = parsed(&["quote", "--to", "10", "--on", "2026-06-01"]);
    assert_eq!(ten["advice"], json!({ "seats": 11, "monthly_cents": 8_811 }));
    let most = parsed(&["quote", "--to", "1000000"]);
    assert_eq!(most["monthly_cents"], 267_000_000);
}

#[test]
fn the_instant_of_a_quote_is_a_date_of_the_billing_zone() {
    let at = |at: &str| parsed(&["quote", "--from", "10", "--to", "16", "--at", at])["net_cents"].clone();
    assert_eq!(at("2026-06-16T00:00:00+02:00"), 1_958);
    assert_eq!(at("2026-06-15T21:59:59Z"), 2_089);
    let folder = tempfile::tempdir().unwrap();
    let config = files(folder.path(), "time_zone = \"America/New_York\"\n[policy]\nprice_mode = \"graduated\"\n", &[]);
    let quote = ["quote", "--config", &config, "--from", "10", "--to", "16", "--at", "2026-06-17T03:59:59Z"];
    assert_eq!(parsed(&quote)["net_cents"], 2_403);
    assert_eq!(parsed(&[&quote[..], &["--price-mode", "volume"]].concat())["net_cents"], 1_958);
}

#[test]
fn a_quote_is_a_table_in_euros_and_csv_in_cents() {
    let quote = ["quote", "--from", "10", "--to", "600", "--on", "2026-06-16", "--partner", "registered"];
    let (out, _) = run(&quote, 0);
    let want = "\
NET OF VAT                           EUR
one seat, a month                   4.45
600 seats, a month              2,670.00
charged on 2026-06-16           2,581.00
  for the rest of the month     1,290.50
  credited for its part before  1,290.50
next invoice                    1,379.50
commission, a month               267.00
wholesale, a month              2,403.00
";
    assert_eq!(out, want);
    let (csv, _) = run(&[&quote[..], &["-o", "csv"]].concat(), 0);
    assert!(csv.starts_with("field,value\n") && csv.contains("\nmonthly_cents,267000\n"), "{csv}");
    let (out, _) = run(&["quote", "--to", "1000", "--on", "2026-06-01"], 0);
    assert!(out.contains("no more for 1001 seats, a month  2,672.67\n"), "{out}");
}

const GROWING: &str = "kind = \"paid\"\nstart = \"2026-05-01\"\nseats = 10\n\
    [[change]]\neffective_at = \"2026-06-16\"\nseats = 16\n";

#[test]
fn a_statement_lists_every_month_t124() {
    let folder = tempfile::tempdir().unwrap();
    let config = files(folder.path(), "", &[("acme", GROWING)]);
    let ask = ["statement", "acme", "--from", "2026-06", "--to", "2026-07-31", "--config", &config];
    let month = |month: &str, rest: [u64; 8]| {
        let [fee, charge, net, credit, used, invoice, forfeited, balance] = rest;
        json!({
            "month": month, "seats": 16, "fee_cents": fee, "charge_cents": charge, "net_cents": net,
            "credit_cents": credit, "credit_used_cents": used, "invoice_cents": invoice,
            "forfeited_cents": forfeited, "balance_cents": balance,
        })
    };
    let want = json!({
        "tenant": "acme", "from": "2026-06", "to": "2026-07",
        "months": [
            month("2026-06", [8_900, 3_916, 1_958, 1_958, 0, 12_816, 0, 1_958]),
            month("2026-07", [12_816, 0, 0, 0, 1_958, 10_858, 0, 0]),
        ],
        "totals": {
            "fee_cents": 21_716, "charge_cents": 3_916, "net_cents": 1_958, "credit_cents": 1_958,
            "credit_used_cents": 1_958, "invoice_cents": 23_674, "forfeited_cents": 0, "balance_cents": 0,
        },
    });
    assert_eq!(parsed(&ask), want);
    let (csv, _) = run(&[&ask[..], &["-o", "csv"]].concat(), 0);
    let mut rows = csv.lines();
    let titles = "month,seats,fee_cents,charge_cents,net_cents,credit_cents,credit_used_cents,invoice_cents,forfeited_cents,balance_cents";
    assert_eq!(rows.next(), Some(titles));
    assert_eq!(rows.nth(1), Some("2026-07,16,12816,0,0,0,1958,10858,0,0"));
    let (table, _) = run(&ask, 0);
    let cells: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect()).collect();
    assert_eq!(cells[0][..4], ["MONTH", "SEATS", "FEE EUR", "CHARGE EUR"]);
    assert_eq!(cells[3], ["total", "217.16", "39.16", "19.58", "19.58", "19.58", "236.74", "0.00", "0.00"]);
}

#[test]
fn what_has_no_price_or_no_sense_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let paid = "kind = \"paid\"\n";
    let config = files(
        folder.path(),
        "",
        &[
            ("acme", GROWING),
            ("any", &format!("{paid}start = \"2026-05-01\"\nunlimited = true\n")),
            ("early", &format!("{paid}seats = 5\n")),
            ("try", "kind = \"trial\"\nstart = \"2026-05-01\"\n"),
        ],
    );
    for (tenant, from, to, code, told) in [
        ("acme", "2026-07", "2026-06", 2, "--from comes after --to"),
        ("acme", "2026-06", "2126-05", 2, "at most 1200 months"),
        ("acme", "2026-13", "2026-06", 2, "write a month as in 2026-06"),
        ("acme", "2026-06", "2026-06-31", 2, "write a month as in 2026-06"),
        ("acme", "2026-06", "June", 2, "write a month as in 2026-06"),
        ("any", "2026-06", "2026-06", 1, "unlimited seats in 2026-05"),
        ("early", "2026-06", "2026-06", 78, "tenants.d/early.toml: tenant early has no start"),
        ("nobody", "2026-06", "2026-06", 78, "no tenant \"nobody\""),
    ] {
        let (out, err) = run(&["statement", tenant, "--from", from, "--to", to, "--config", &config], code);
        assert!(out.is_empty() && err.contains(told), "{tenant} {from} {to}: {out}{err}");
    }
    let free = parsed(&["statement", "try", "--from", "2026-05", "--to", "2026-06", "--config", &config]);
    assert_eq!(free["totals"]["invoice_cents"], 0);
    for arguments in [
        &["quote"][..],
        &["quote", "--to", "1000001"],
        &["quote", "--to", "-1"],
        &["quote", "--to", "1", "--from", "many"],
        &["quote", "--to", "1", "--on", "2026-02-29"],
        &["quote", "--to", "1", "--on", "2026-2-1"],
        &["quote", "--to", "1", "--at", "2026-02-01"],
        &["quote", "--to", "1", "--at", "2026-02-01T00:00:00Z", "--on", "2026-02-01"],
        &["quote", "--to", "1", "--partner", "gold"],
        &["quote", "--to", "1", "--price-mode", "flat"],
        &["statement", "acme", "--from", "2026-06"],
    ] {
        let (out, err) = run(arguments, 2);
        assert!(out.is_empty() && !err.is_empty(), "{arguments:?}: {out}{err}");
    }
    let (_, err) = run(&["quote", "--to", "1", "--config", "/nowhere/usherd.toml"], 78);
    assert!(err.contains("/nowhere/usherd.toml"), "{err}");
}
