//! Receivers that lie in every way, by a clock that the test moves.

use serde_json::{Value, json};

use crate::office::{Office, SECRET, wait};
use crate::receiver::Manner;

/// Sends a test now: its status, and what went wrong.
fn test(office: &Office) -> (Value, String) {
    let (status, body) = office.call("POST", "/v1/admin/webhooks/desk/test", "");
    assert_eq!(status, 200, "{body}");
    let tried: Value = serde_json::from_str(&body).unwrap();
    let error = tried["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(tried["result"] == "delivered", error.is_empty(), "{tried}");
    (tried["status"].clone(), error)
}

#[test]
fn whatever_a_receiver_does_the_try_ends_and_says_why() {
    let office = Office::start("");
    for (manner, status, fragment) in [
        (Manner::Take, json!(204), ""),
        (Manner::Say("200 OK"), json!(200), ""),
        (Manner::Say("500 Oops"), json!(500), "it answers 500 Internal Server Error: no way, sorry!"),
        (Manner::Say("400 No"), json!(400), "no way, sorry!"),
        (Manner::Say("302 Found\r\nLocation: https://elsewhere.example/"), json!(302), "redirects are not followed"),
        (Manner::Hang, Value::Null, "no whole answer within 1 s"),
        (Manner::Drip, Value::Null, "no whole answer within 1 s"),
        (Manner::Reset, Value::Null, "no answer"),
        (Manner::Flood, json!(500), "xxxxxxxx"),
        (Manner::Garbage, Value::Null, "no answer"),
        (Manner::WrongName, Value::Null, "is not trusted"),
        (Manner::NoTls, Value::Null, "is not trusted"),
        (Manner::Take, json!(204), ""),
    ] {
        office.receiver.behave(manner.clone());
        // Who answers has the time that a busy machine may take.
        let never_ends = matches!(manner, Manner::Hang | Manner::Drip);
        office.configure(if never_ends { "timeout_s = 1" } else { "timeout_s = 30" });
        let (answered, error) = test(&office);
        assert_eq!(answered, status, "{manner:?}: {error}");
        assert!(error.contains(fragment) && error.is_empty() == fragment.is_empty(), "{manner:?}: {error}");
        assert!(error.len() < 400, "{manner:?}: {error}");
    }
    assert!(office.receiver.got().iter().all(|got| got.is_in_order(SECRET) && got.about() == "test"));
    assert_eq!(office.receiver.got()[0].head.lines().next(), Some("POST /hooks/usherd?code=hidden-query HTTP/1.1"));
    // A secret is read at each try: it is replaced without a reload, and both count meanwhile.
    let fresh = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(office.daemon.path("secret"), format!("{fresh}\n{SECRET}\n")).unwrap();
    test(&office);
    let got = office.receiver.got().pop().unwrap();
    assert!(got.is_in_order(SECRET) && got.is_in_order(fresh));
    std::fs::write(office.daemon.path("secret"), "hunter2").unwrap();
    let (_, error) = test(&office);
    assert!(error.contains("secret holds no secret") && !error.contains("hunter2"), "{error}");
    std::fs::remove_file(office.daemon.path("secret")).unwrap();
    assert!(test(&office).1.contains("secret"));
    assert_eq!(office.call("POST", "/v1/admin/webhooks/other/test", "").0, 404);
    assert_eq!(office.counted("delivered") + office.counted("failed"), 0, "tests are no deliveries");
}

#[test]
fn what_fails_is_tried_again_later_and_later_and_then_given_up() {
    let office = Office::start("retry_for_s = 3600");
    office.receiver.behave(Manner::Say("503 Busy"));
    office.acquire("unknown", "a");
    for (number, (least_s, most_s)) in [(1, (5, 6)), (2, (300, 360)), (3, (1_800, 2_160))] {
        let tried = office.try_number(number);
        assert_eq!(
            (&tried["attempt"], &tried["result"], &tried["status"]),
            (&json!(number), &json!("retried"), &json!(503))
        );
        let at = |key: &str| chrono::DateTime::parse_from_rfc3339(tried[key].as_str().unwrap()).unwrap();
        let wait_s = (at("next_attempt_at") - at("at")).num_seconds();
        assert!((least_s..=most_s).contains(&wait_s), "{tried}");
        office.after(least_s as u64 - 1);
        assert_eq!(office.tries().len(), number, "not early");
        office.after((wait_s - least_s) as u64 + 2);
    }
    // The next wait would be longer than its time: the last try is made when that is over.
    let tried = office.try_number(4);
    assert_eq!(tried["result"], "retried");
    office.after(3_600);
    let tried = office.try_number(5);
    assert_eq!((&tried["result"], &tried["next_attempt_at"]), (&json!("failed"), &Value::Null));
    assert_eq!((office.hook()["queued"].as_u64(), office.hook()["state"].as_str()), (Some(0), Some("failing")));
    assert_eq!((office.counted("retried"), office.counted("failed"), office.counted("delivered")), (4, 1, 0));
    let got = office.got(5);
    assert!(got.iter().all(|again| again.body == got[0].body), "the same at each try");
    let stamps: Vec<&str> = got.iter().map(|got| got.header("webhook-timestamp")).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "but for its time: {stamps:?}");
}

#[test]
fn a_receiver_gets_its_pause_and_then_all_that_waited() {
    let office = Office::start("");
    office.receiver.behave(Manner::Say("429 Slow down\r\nRetry-After: 3000"));
    office.acquire("unknown", "a");
    office.try_number(1);
    office.acquire("another", "a");
    office.after(2_990);
    assert_eq!((office.tries().len(), office.hook()["queued"].as_u64()), (1, Some(2)), "nothing new either");
    office.receiver.behave(Manner::Take);
    office.after(11);
    let got = office.got(3);
    let tenants: Vec<_> = got[1..].iter().map(|got| got.json()["subject"].as_str().unwrap().to_owned()).collect();
    assert!(tenants.contains(&"unknown".to_owned()) && tenants.contains(&"another".to_owned()), "{tenants:?}");
    wait("an empty queue", || office.hook()["queued"] == 0, || office.hook().to_string());
    assert_eq!((office.counted("delivered"), office.series("usherd_webhook_queue_messages")), (2, 0));
}

#[test]
fn who_answers_410_is_left_alone_until_a_test_is_taken() {
    let office = Office::start("");
    office.receiver.behave(Manner::Say("410 Gone"));
    office.acquire("unknown", "a");
    assert_eq!(office.try_number(1)["result"], "gone");
    office.receiver.behave(Manner::Take);
    office.acquire("another", "a");
    office.after(86_400);
    assert_eq!(
        (office.hook()["state"].as_str(), office.hook()["queued"].as_u64(), office.tries().len()),
        (Some("gone"), Some(0), 1)
    );
    wait("the second to be counted", || office.counted("gone") == 2, || office.counted("gone").to_string());
    assert_eq!(test(&office), (json!(204), String::new()));
    assert_eq!(office.hook()["state"], "ok");
    office.acquire("third", "a");
    assert_eq!(office.got(3)[2].json()["subject"], "third");
}

#[test]
fn a_receiver_that_is_back_gets_the_queue_without_refusals() {
    let office = Office::start("");
    office.receiver.behave(Manner::Say("422 Not this one"));
    office.acquire("refused", "a");
    office.try_number(1);
    office.receiver.behave(Manner::Reset);
    office.acquire("unlucky", "a");
    office.after(6);
    // Both are due; whichever comes first fails and pauses the other.
    office.try_number(2);
    office.after(6);
    office.try_number(3);
    office.receiver.behave(Manner::Take);
    assert_eq!(test(&office).1, "");
    wait("the unlucky one", || office.counted("delivered") >= 1, || format!("{:#?}", office.tries()));
    office.settled();
    let last = office.receiver.got().pop().unwrap();
    assert_eq!(last.json()["subject"], "unlucky", "it need not wait any longer");
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_so() {
    let office = Office::start("queue_max = 3");
    office.receiver.behave(Manner::Say("500 Oops"));
    for tenant in 0..8 {
        office.acquire(&format!("unknown{tenant}"), "a");
        office.settled();
    }
    wait("five to be dropped", || office.counted("dropped") == 5, || office.hook().to_string());
    assert_eq!((office.hook()["queued"].as_u64(), office.series("usherd_webhook_queue_messages")), (Some(3), 3));
}
