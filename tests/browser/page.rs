//! A headless Chromium of its own with one page, driven over WebDriver, and what it logged.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use url::Url;
use usherd_testkit::wait::eventually;

/// No command takes longer, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page; dropping it ends the browser.
pub(crate) struct Page {
    runtime: Runtime,
    client: Client,
    driver: Child,
    origin: String,
    _profile: tempfile::TempDir,
}

impl Page {
    /// A browser that looks at the dashboard of a daemon, `place` being what stands behind the `#`.
    pub(crate) fn open(daemon: SocketAddr, place: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = start_driver();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&profile.path().display().to_string()));
        let client = within(&runtime, builder.connect(&format!("http://127.0.0.1:{port}"))).unwrap();
        let page = Page { runtime, client, driver, origin: format!("http://{daemon}"), _profile: profile };
        page.size(1280, 900, false);
        page.go(place);
        page
    }

    /// Goes to a place, as by a link.
    pub(crate) fn go(&self, place: &str) {
        within(&self.runtime, self.client.goto(&format!("{}/{place}", self.origin))).unwrap();
    }

    /// The value that a script returns.
    pub(crate) fn js(&self, script: &str) -> Value {
        let run = self.client.execute(script, Vec::new());
        within(&self.runtime, run).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script returns something that counts as true.
    pub(crate) fn until(&self, script: &str) -> Value {
        eventually(script, || {
            let value = self.js(&format!("return {script}"));
            let counts = !matches!(&value, Value::Null | Value::Bool(false)) && value != json!("") && value != json!(0);
            counts.then_some(value)
        })
    }

    /// Waits until the text of an element has this in it.
    pub(crate) fn until_text(&self, selector: &str, part: &str) {
        self.until(&format!(
            "[...document.querySelectorAll({selector:?})].some((node) => node.textContent.includes({part:?}))"
        ));
    }

    /// The text on the page.
    pub(crate) fn text(&self) -> String {
        self.js("return document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Presses keys where the focus is.
    pub(crate) fn press(&self, keys: &str) {
        within(&self.runtime, async { self.client.active_element().await.unwrap().send_keys(keys).await }).unwrap();
    }

    /// Clicks the first of these elements, as a mouse does.
    pub(crate) fn click(&self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?}) !== null"));
        let click = async { self.client.find(fantoccini::Locator::Css(selector)).await?.click().await };
        within(&self.runtime, click).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// A command of the browser's own protocol.
    pub(crate) fn chromium(&self, command: &str, parameters: &Value) -> Value {
        self.issue("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The size of the window, in pixels of CSS.
    pub(crate) fn size(&self, width: u32, height: u32, mobile: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets the colour scheme that the user's system prefers.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.chromium("Emulation.setEmulatedMedia", &features);
    }

    /// Keeps a picture of the whole page for people to look at, outside the repository.
    pub(crate) fn picture(&self, name: &str) {
        let size = self.js("return [innerWidth, Math.min(document.documentElement.scrollHeight, 4000)]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let shot = self.chromium("Page.captureScreenshot", &json!({ "captureBeyondViewport": true, "clip": clip }));
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, shot["data"].as_str().unwrap()).unwrap();
        let folder = std::env::var_os("USHERD_ARTEFACTS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/artefacts"), PathBuf::from);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("dashboard-{name}.png")), bytes).unwrap();
    }

    /// Panics where the console complained, or where anything was asked of somebody else than the daemon.
    pub(crate) fn is_clean(&self, put_up_with: &[&str]) {
        let console = self.issue("se/log", &json!({ "type": "browser" }));
        let complaints: Vec<&str> =
            console.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap()).collect();
        let unexpected = complaints.iter().filter(|text| !put_up_with.iter().any(|known| text.contains(known)));
        assert_eq!(unexpected.collect::<Vec<_>>(), [&""; 0], "the console");
        let log = self.issue("se/log", &json!({ "type": "performance" }));
        let mut seen = 0;
        for entry in log.as_array().unwrap() {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] == "Network.requestWillBeSent" {
                let url = message["message"]["params"]["request"]["url"].as_str().unwrap();
                // Its empty first tab is the browser's own business, and no page can ask there.
                let own = url.starts_with("chrome://") || url.starts_with("data:");
                assert!(own || url.starts_with(&format!("{}/", self.origin)), "{url} was asked");
                seen += usize::from(!own);
            }
        }
        assert!(seen > 4, "{seen} requests: nothing is proved");
    }

    fn issue(&self, end: &'static str, body: &Value) -> Value {
        let command = Plain { end, body: body.to_string() };
        within(&self.runtime, self.client.issue_cmd(command)).unwrap_or_else(|error| panic!("{end} {body}: {error}"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The driver ends the browser with the session, and again when it is asked to end.
        let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.client.clone().close()).await });
        let _ = kill_process(Pid::from_child(&self.driver), Signal::TERM);
        let _ = self.driver.wait();
    }
}

fn within<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await }).expect("the browser answers in time")
}

/// The driver on a port of its choice.
fn start_driver() -> (Child, u16) {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut driver = command.spawn().unwrap_or_else(|error| panic!("chromedriver (Debian: chromium-driver): {error}"));
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = |line: String| line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok();
    let port = lines.map_while(Result::ok).find_map(port).expect("it names its port");
    (driver, port)
}

fn capabilities(profile: &str) -> Map<String, Value> {
    let profile = format!("--user-data-dir={profile}");
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // The name of a page whose owner lets it resolve to this machine.
        "--host-resolver-rules=MAP rebound.example 127.0.0.1",
        &profile,
    ];
    let wanted = json!({
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    });
    wanted.as_object().unwrap().clone()
}

/// A command of Chromium's driver that the WebDriver standard does not have.
#[derive(Debug)]
struct Plain {
    end: &'static str,
    body: String,
}

impl WebDriverCompatibleCommand for Plain {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.end))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.clone()))
    }
}
