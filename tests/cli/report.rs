//! `whatif`, `report` and `size --from-history` against an office's month as the daemon would answer it.

use serde_json::{Value, json};

use super::canned::Canned;
use super::{finish, run, usherd};

/// 2026-06-01 00:00 UTC.
const BEGIN_S: i64 = 1_780_272_000;
const DAYS: i64 = 30;

fn at(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Full at ten and at fifteen on working days; on the 20th the daemon did not run until noon.
fn office() -> Value {
    let hours = (0..DAYS * 24).filter(|hour| !(19 * 24..19 * 24 + 12).contains(hour)).map(|hour| {
        let (day, hour_of_day) = (hour / 24, hour % 24);
        let busy =
            [0, 0, 0, 0, 0, 0, 1, 4, 11, 14, 16, 15, 9, 12, 15, 16, 13, 8, 3, 1, 0, 0, 0, 0][hour_of_day as usize];
        let peak = if day % 7 >= 5 { busy / 8 } else { busy };
        let full = peak == 16;
        json!({
            "at": at(BEGIN_S + hour * 3_600), "quota": 16, "peak": peak, "demand": peak + if full { 2 } else { 0 },
            "mean": 0.8 * f64::from(peak), "seat_s": i64::from(peak) * 2_880, "saturated_s": if full { 600 } else { 0 },
            "denials": if full { 3 } else { 0 }, "denials_true": if full { 1 } else { 0 }, "observed_s": 3_600,
        })
    });
    let total = json!({"peak": 16, "demand": 18, "seat_s": 4_000_000, "saturated_s": 26_400, "denials": 132, "denials_true": 44, "observed_s": 2_548_800, "mean": 1.5, "peak_at": null});
    json!({"tenant": "acme", "usage": hours.collect::<Vec<_>>(), "total": total})
}

fn whatif() -> String {
    let rows: Vec<Value> = [(16, 132, 0.02), (17, 40, 0.006), (18, 0, 0.0)]
        .iter()
        .map(|(quota, denials, share)| json!({"quota": quota, "denials": denials, "share": share, "saturated_s": denials * 100, "monthly_cents": quota * 801}))
        .collect();
    json!({
        "tenant": "acme", "from": at(BEGIN_S), "to": at(BEGIN_S + DAYS * 86_400), "quota": 16, "requests": 6_600, "observed_s": 2_548_800,
        "whatif": rows, "target": 0.01, "recommended": 17, "monthly_cents": 13_617, "advice": {"seats": 18, "monthly_cents": 13_600},
    })
    .to_string()
}

fn daemon() -> Canned {
    let (whatif, usage) = (whatif(), office().to_string());
    let hours = format!(
        "GET /v1/tenants/acme/usage?from={}&to={}&step=1h",
        "2026-06-01T00%3A00%3A00%2B00%3A00", "2026-07-01T00%3A00%3A00%2B00%3A00"
    );
    Canned::with(&[
        ("GET /v1/tenants/acme", 200, r#"{"tenant":"acme","name":"Acme & <Sons>","quota":16,"time_zone":"UTC"}"#),
        ("GET /v1/tenants/acme/whatif", 200, &whatif),
        ("GET /v1/tenants/acme/whatif?from=2026-06-01&to=2026-07-01", 200, &whatif),
        ("GET /v1/tenants/acme/whatif?quota=16..18&target=0.01", 200, &whatif),
        ("GET /v1/tenants/acme/whatif?target=0.02", 200, &whatif),
        (&hours, 200, &usage),
    ])
}

fn ask(arguments: &[&str]) -> String {
    let daemon = daemon();
    let mut all = vec!["--addr", daemon.address.as_str(), "--utc"];
    all.extend(arguments);
    run(&all, 0).0
}

const JUNE: [&str; 6] = ["report", "acme", "--from", "2026-06-01", "--to", "2026-07-01"];

#[test]
fn another_quota_is_judged_and_priced() {
    let out = ask(&["whatif", "acme", "--quota", "16..18", "--target", "1%"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "acme, 2026-06-01 00:00:00 UTC to 2026-07-01 00:00:00 UTC, 708 h 0 min of history");
    assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>().join(" "), "QUOTA DENIED SHARE TOO FEW FOR A MONTH");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>().join(" "), "16 132 2.00% 3:40 h 128.16 now");
    assert_eq!(lines[5].split_whitespace().collect::<Vec<_>>().join(" "), "17 40 0.60% 1:06 h 136.17 recommended");
    assert_eq!(
        lines[8],
        "17 seats would have denied less than 1% of the requests; 136.17 a month; 18 seats cost no more: 136.00"
    );
    assert_eq!(ask(&["whatif", "acme", "-o", "json"]).trim_end(), whatif(), "JSON is what the daemon answered");
    assert!(
        ask(&["whatif", "acme", "-o", "csv"])
            .starts_with("quota,denials,share,saturated_s,monthly_cents\n16,132,0.02,13200,12816\n")
    );
    assert!(ask(&["size", "--from-history", "acme", "--target", "2%"]).contains("17 seats would have denied"));
}

/// Two civil days of Berlin, with the hour that comes twice in the first; no zone of a terminal changes them.
#[test]
fn days_are_those_of_the_billing_zone() {
    let begin_s = 1_792_879_200; // 2026-10-25 00:00 in Berlin
    let hours: Vec<Value> = (0..49)
        .map(|hour| json!({"at": at(begin_s + hour * 3_600), "quota": 2, "peak": 1, "seat_s": 3_600, "observed_s": 3_600}))
        .collect();
    let usage = json!({"tenant": "acme", "usage": hours, "total": {"peak": 1}}).to_string();
    let (from, to) = (at(begin_s), at(begin_s + 49 * 3_600));
    let whatif = json!({"tenant": "acme", "from": from, "to": to, "quota": 2, "requests": 0, "whatif": []}).to_string();
    let daemon = Canned::with(&[
        ("GET /v1/tenants/acme", 200, r#"{"tenant":"acme","quota":2,"time_zone":"Europe/Berlin"}"#),
        ("GET /v1/tenants/acme/whatif?from=2026-10-25&to=2026-10-27", 200, &whatif),
        (
            "GET /v1/tenants/acme/usage?from=2026-10-24T22%3A00%3A00%2B00%3A00&to=2026-10-26T23%3A00%3A00%2B00%3A00&step=1h",
            200,
            &usage,
        ),
    ]);
    for (zone, more) in [("UTC", &[][..]), ("Asia/Tokyo", &[]), ("Asia/Tokyo", &["--utc"])] {
        let mut command = usherd(&["report", "acme", "--from", "2026-10-25", "--to", "2026-10-27"]);
        command.env("TZ", zone).args(["--addr", daemon.address.as_str()]).args(more);
        let text = finish(&mut command, 0).0;
        let days: Vec<&str> = text.lines().filter(|line| line.starts_with("2026-")).map(|line| &line[..14]).collect();
        assert_eq!(days, ["2026-10-25 Sun", "2026-10-26 Mon"], "TZ={zone} {more:?}: {text}");
        assert!(text.contains("days of Europe/Berlin"), "{text}");
    }
}

#[test]
fn a_report_is_a_table_csv_and_json() {
    let table = ask(&JUNE);
    assert!(table.contains("most held at once    16") && table.contains("132, of them 44 people"), "{table}");
    let day = table.lines().find(|line| line.starts_with("2026-06-01 Mon")).unwrap();
    assert_eq!(day.split_whitespace().collect::<Vec<_>>().join(" "), "2026-06-01 Mon 16 16 4.60 18 20 min 6 2");
    let csv = ask(&[&JUNE[..], &["-o", "csv"]].concat());
    assert!(
        csv.starts_with(
            "at,quota,peak,demand,seat_s,saturated_s,denials,denials_true,observed_s,mean\n2026-06-01T00:00:00Z,16,0,"
        ),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 1 + 30 * 24 - 12);
    let json: Value = serde_json::from_str(&ask(&[&JUNE[..], &["-o", "json"]].concat())).unwrap();
    assert_eq!((json["hours"].as_array().unwrap().len(), &json["whatif"]["recommended"]), (708, &17.into()));
}

#[test]
fn a_page_stands_alone_and_shows_what_the_table_says() {
    let page = ask(&[&JUNE[..], &["-o", "html"]].concat());
    if let Some(folder) = std::env::var_os("USHERD_ARTEFACTS") {
        std::fs::write(std::path::Path::new(&folder).join("report.html"), &page).unwrap();
    }
    assert!(page.contains("<h1>Seats of Acme &amp; &lt;Sons&gt;</h1>"), "names are text, not markup");
    for foreign in ["http:", "https:", "<script", "url(", "@import", "src="] {
        assert!(!page.contains(foreign), "a page that is sent around fetches nothing: {foreign}");
    }
    assert_eq!(page.matches("class=\"cell").count(), 708, "a cell per hour that was looked at");
    assert_eq!(page.matches("class=\"empty\"").count(), 12);
    assert_eq!(page.matches("class=\"cell full\"").count(), 2 * 22, "two full hours on each working day");
    assert!(page.contains("<tr class=\"marked\"><td>17</td><td>40</td><td>0.60 %</td>"));
    assert!(page.contains("2026-06-01 Mon</td><td>16</td><td>4.60</td><td>18</td><td>20 min</td><td>6</td><td>2</td>"));
}

#[test]
fn only_a_report_is_a_page_and_size_needs_one_or_the_other() {
    for (arguments, word) in [
        (&["status", "-o", "html"][..], "only `usherd report` makes HTML"),
        (&["size", "--from-history", "acme", "1", "2", "3", "4"], "--from-history"),
        (&["size"], "TYPE1"),
        (&["whatif", "acme", "--target", "60%"], "50%"),
    ] {
        let (_, err) = finish(&mut usherd(arguments), 2);
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
}
