//! Chromium, driven through the W3C's WebDriver protocol (<https://www.w3.org/TR/webdriver2/>).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_interop::{
    Context, Outcome, Peer, Stage, Trouble, ensure, free_port, need, wait_for,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// A browser with one window, and the driver that it hangs on. Dropping it ends both.
pub(crate) struct Browser {
    driver: String,
    session: String,
    _peer: Peer,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with a profile of its own. Without scripts, the pages get to run none.
    pub(crate) fn start(stage: &Stage, name: &str, scripts: bool) -> Outcome<Self> {
        let program = need("chromedriver", "chromium-driver")?;
        let chromium = need("chromium", "chromium")?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args([format!("--port={port}"), "--allowed-ips=127.0.0.1".to_owned()]);
        // Not the case's folder, whose logs are shown after a failure: a profile has many.
        let profile = tempfile::tempdir().during("making a profile")?;
        command.env("HOME", profile.path());
        let mut peer = Peer::start(stage, name, &mut command)?;
        let driver = format!("127.0.0.1:{port}");
        peer.until("chromedriver", LIMIT, || TcpStream::connect(&driver).ok())?;
        let mut arguments = vec![format!("--user-data-dir={}", profile.path().join("p").display())];
        arguments.extend(FLAGS.iter().map(|flag| (*flag).to_owned()));
        let mut options = json!({ "binary": chromium, "args": arguments });
        if !scripts {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "timeouts": { "implicit": 15_000, "pageLoad": 20_000, "script": 10_000 },
        } } });
        let begun = call(&driver, "POST", "/session", &wanted)?;
        let session = begun["sessionId"].as_str().during("a session of the browser")?.to_owned();
        Ok(Self { driver, session, _peer: peer, _profile: profile })
    }

    /// Opens an address.
    pub(crate) fn open(&self, address: &str) -> Outcome {
        self.post("/url", &json!({ "url": address })).map(drop)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Outcome<String> {
        Ok(self.get("/url")?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until it is somewhere.
    pub(crate) fn at(&self, end: &str) -> Outcome {
        let mut last = String::new();
        let there = wait_for(&format!("being at {end}"), LIMIT, || {
            last = self.address().ok()?;
            last.ends_with(end).then_some(())
        });
        there.map_err(|trouble| {
            let page = self.text().unwrap_or_default();
            Trouble::failed(format!("{trouble}: it is at {last}, which says\n{page}"))
        })
    }

    /// Writes into a field.
    pub(crate) fn fill(&self, css: &str, text: &str) -> Outcome {
        let element = self.find(css)?;
        self.post(&format!("/element/{element}/clear"), &json!({}))?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Clicks.
    pub(crate) fn click(&self, css: &str) -> Outcome {
        let element = self.find(css)?;
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// An attribute of an element.
    pub(crate) fn attribute(&self, css: &str, name: &str) -> Outcome<Option<String>> {
        let element = self.find(css)?;
        let value = self.get(&format!("/element/{element}/attribute/{name}"))?;
        Ok(value.as_str().map(str::to_owned))
    }

    /// What can be read in an element.
    pub(crate) fn text_of(&self, css: &str) -> Outcome<String> {
        let element = self.find(css)?;
        let text = self.get(&format!("/element/{element}/text"))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// What can be read on the page.
    pub(crate) fn text(&self) -> Outcome<String> {
        self.text_of("body")
    }

    /// Waits until the page says something.
    pub(crate) fn says(&self, text: &str) -> Outcome {
        let mut last = String::new();
        let said = wait_for(&format!("the page saying {text:?}"), LIMIT, || {
            last = self.text().ok()?;
            last.contains(text).then_some(())
        });
        said.map_err(|trouble| Trouble::failed(format!("{trouble}; it says\n{last}")))
    }

    /// The id of the element that has the focus.
    pub(crate) fn focus(&self) -> Outcome<String> {
        let active = self.get("/element/active")?;
        let element = reference(&active).during("the focus")?;
        let id = self.get(&format!("/element/{element}/property/id"))?;
        Ok(id.as_str().unwrap_or_default().to_owned())
    }

    /// What a script on the page gives.
    pub(crate) fn script(&self, code: &str) -> Outcome<Value> {
        self.post("/execute/sync", &json!({ "script": code, "args": [] }))
    }

    /// Forgets all cookies of the page's host.
    pub(crate) fn forget(&self) -> Outcome {
        call(&self.driver, "DELETE", &self.path("/cookie"), &Value::Null).map(drop)
    }

    /// The cookies of the page's host.
    pub(crate) fn cookies(&self) -> Outcome<Vec<Value>> {
        Ok(self.get("/cookie")?.as_array().cloned().unwrap_or_default())
    }

    /// Plugs in an authenticator that is part of the machine, verifies its user and agrees to everything
    /// (<https://www.w3.org/TR/webauthn-3/#sctn-automation>).
    pub(crate) fn authenticator(&self) -> Outcome {
        let kind = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
            "hasUserVerification": true, "isUserConsenting": true, "isUserVerified": true,
        });
        self.post("/webauthn/authenticator", &kind).map(drop)
    }

    /// Looks as a person's machine does: so wide, so high, in light or dark.
    pub(crate) fn look(&self, width: u32, height: u32, scheme: &str) -> Outcome {
        // Without motion: what is measured is not half-way from one colour to another.
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))?;
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
    }

    /// Takes a picture of the whole page.
    pub(crate) fn picture(&self, path: &Path) -> Outcome {
        let whole = json!({ "captureBeyondViewport": true });
        let command = json!({ "cmd": "Page.captureScreenshot", "params": whole });
        let taken = self.post("/goog/cdp/execute", &command)?;
        let data = taken["data"].as_str().during("a picture")?;
        let bytes = STANDARD.decode(data).during("a picture")?;
        fs::write(path, bytes).during(path.display())
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Outcome {
        let command = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", &command).map(drop)
    }

    fn find(&self, css: &str) -> Outcome<String> {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css }));
        let found = found.map_err(|trouble| {
            let page = self.get("/source").unwrap_or_default();
            let page = page.as_str().unwrap_or_default().to_owned();
            Trouble::failed(format!("no {css}: {trouble}\n{page}"))
        })?;
        reference(&found).during(css)
    }

    fn get(&self, path: &str) -> Outcome<Value> {
        call(&self.driver, "GET", &self.path(path), &Value::Null)
    }

    fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        call(&self.driver, "POST", &self.path(path), body)
    }

    fn path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver's process group dies in any case.
        let _ = call(&self.driver, "DELETE", &self.path(""), &Value::Null);
    }
}

/// Alone, without a screen, and without a word to anybody but us.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-default-apps",
    "--disable-extensions",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--lang=en",
];

/// The one key of an element's reference (WebDriver, section 12.2).
fn reference(value: &Value) -> Option<String> {
    let (_, id) = value.as_object()?.iter().next()?;
    id.as_str().map(str::to_owned)
}

fn call(driver: &str, method: &str, path: &str, body: &Value) -> Outcome<Value> {
    let doing = format!("{method} {path}");
    let mut stream = TcpStream::connect(driver).during(&doing)?;
    stream.set_read_timeout(Some(LIMIT)).during(&doing)?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {driver}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).during(&doing)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte).during(&doing)? == 1, "{doing}: the reply broke off");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.during(&doing)?.trim().parse().during(&doing)?;
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).during(&doing)?;
    let mut reply: Value = serde_json::from_slice(&reply).during(&doing)?;
    let value = reply["value"].take();
    match value["error"].as_str() {
        Some(error) => Err(Trouble::failed(format!("{doing}: {error}: {}", value["message"]))),
        None => Ok(value),
    }
}
