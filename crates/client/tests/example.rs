//! The example does what it says, with a daemon and without.
#![allow(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[path = "../examples/node/morning.rs"]
mod morning;

use std::sync::Arc;
use std::time::Duration;

use usherd::daemon::clock::SystemClock;
use usherd_testkit::daemon::start;
use usherd_testkit::files::files;

async fn told(address: &str) -> Vec<String> {
    // A machine that runs tests is slower than a network: what is looked at is who decides, not how soon.
    let options = usherd_client::Options::starting_now(address.parse().unwrap(), morning::NODE);
    let options = usherd_client::Options { deadline: Duration::from_secs(10), ..options };
    let mut out = Vec::new();
    morning::run(options, "acme", &mut out).await.unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn one_of_two_is_refused_and_customers_and_help_get_through() {
    let files = files("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let daemon = start(files.path(), Arc::new(SystemClock::start()), false).unwrap();
    assert!(daemon.wait_ready(Duration::from_secs(60)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(told(&format!("http://{}", daemon.address().unwrap())));
    assert_eq!(
        told,
        [
            "Anna's call: allowed (Daemon), A licence was taken.",
            "Bob's client: refused (Daemon), All licences are in use. Please try again later.",
            "a customer: allowed (Inbound), Incoming calls need no licence.",
            "Bob's call for help: allowed (Emergency), Emergency calls are always allowed.",
            "goodbye, heard",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_daemon_every_call_goes_out() {
    // The port of TCP discard, where nobody listens.
    let told = told("http://127.0.0.1:9").await;
    assert_eq!(told[0], "nobody answers; calls are allowed");
    let allowed = told[1..5].iter().filter(|line| line.contains(": allowed (")).count();
    assert_eq!((allowed, told[5].as_str()), (4, "goodbye, not heard: the daemon's lease ends it"), "{told:#?}");
}
