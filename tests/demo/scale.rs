//! Many tenants: the figures are told, and are those of the daemon.

use rustix::process::Signal;
use usherd_testkit::demo::{Demo, assert_gone};
use usherd_testkit::process::usherd;

#[test]
fn a_thousand_tenants_are_written_loaded_filled_and_kept_busy() {
    let mut demo = Demo::start(&["--tenants", "1000"]);
    demo.wait_for("written     1,000 tenants in");
    demo.wait_for("loaded      in ");
    demo.wait_for("filled      10,000 sessions");
    demo.wait_for("at most 2,000 decisions a second");
    let figures = demo.wait_for("decisions/s");
    assert!(figures.contains("p50") && figures.contains("p99") && figures.contains("MB"), "{figures}");
    let overview = demo.get("/v1/overview");
    assert_eq!(overview["tenants"], 1_000);
    let held = overview["held"].as_u64().unwrap();
    assert!((9_990..=10_000).contains(&held), "all but those between two calls: {overview}");
    let tenant = demo.get("/v1/tenants/t-000999");
    assert_eq!(tenant["quota"], 13, "{tenant}");
    let folder = demo.folder();
    assert_eq!(demo.stop(Signal::TERM).code(), Some(0), "{}", demo.said);
    assert!(demo.said.contains("Stopped."), "{}", demo.said);
    assert_gone(&folder);
}

#[test]
fn one_tenant_and_fewer_sessions_than_connections_work() {
    let mut demo = Demo::start(&["--tenants", "1", "--sessions", "1"]);
    demo.wait_for("filled      1 sessions");
    demo.wait_for("decisions/s");
    let tenants = usherd(&["tenants", "--addr", demo.address(), "-o", "csv"]).output().unwrap();
    assert!(String::from_utf8_lossy(&tenants.stdout).contains("t-000000,active,"), "{tenants:?}");
    assert_eq!(demo.stop(Signal::INT).code(), Some(0), "{}", demo.said);
}
