//! The threat model's word on privacy: no log, at any level, names a person, a session or a dialled number.

use usherd_testkit::process::{Site, told, usherd};

const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n";

#[test]
fn the_log_names_nobody_at_any_level() {
    let site = Site::new("", &[("acme", ACME)]);
    let main = std::fs::read_to_string(site.path("usherd.toml")).unwrap();
    let quiet = "filter = \"info,usherd::daemon::runtime::checkpoint=debug\"";
    assert!(main.contains(quiet));
    std::fs::write(site.path("usherd.toml"), main.replace(quiet, "filter = \"trace\"")).unwrap();
    let mut daemon = site.start();
    let mut client = daemon.client();
    client.post("/v1/nodes/pbx-1/hello", "{\"epoch\":1}");
    for (route, body) in [
        (
            "acquire",
            "tenant=acme&subject=anna.schmidt&session=secret-1&kind=call&direction=outbound&to=0301234567&node=pbx-1&epoch=1&seq=1",
        ),
        (
            "acquire",
            "tenant=acme&subject=bob.meyer&session=secret-2&kind=call&direction=outbound&to=0301234567&ttl_s=60",
        ),
        ("acquire", "tenant=acme&subject=bob.meyer&session=secret-2&kind=call&to=0301234567"),
        (
            "explain",
            "tenant=acme&subject=bob.meyer&session=secret-2&kind=call&direction=outbound&to=0301234567&ttl_s=60",
        ),
        ("release", "tenant=acme&session=secret-1&node=pbx-1&epoch=1&seq=2"),
    ] {
        client.post(&format!("/v1/{route}"), body);
    }
    client.ask("DELETE", "/v1/tenants/acme/subjects/anna.schmidt?force=1", "").unwrap();
    let said = daemon.all_said();
    assert!(said.contains("TRACE"), "it logs little: {said}");
    for name in ["anna", "schmidt", "bob", "meyer", "secret-", "0301234567"] {
        assert!(!said.contains(name), "the log names {name}");
    }
    let (_, trail) = told(usherd(&["journal", "export"]).arg(site.journal()));
    assert!(trail.contains("anna.schmidt") && !trail.contains("0301234567"), "{trail}");
}
