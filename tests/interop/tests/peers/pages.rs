//! People with Chromium on our pages.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_interop::runner::Case;
use countersign_interop::{Context, Countersign, Outcome, Profile, Stage, ensure, free_port, user};
use totp_rs::Builder;

use crate::browser::Browser;

pub(crate) const CASES: &[Case] = &[
    slow("chromium_login_page", login),
    slow("chromium_without_scripts", without_scripts),
    slow("chromium_new_password_round", new_password),
    slow("chromium_one_time_codes", one_time_codes),
    slow("chromium_passkeys", passkeys),
    slow("chromium_narrow_large_and_dark", looks),
];

const PASSWORD: &str = "correct horse battery";

/// A browser takes its time to start.
const fn slow(name: &'static str, play: fn(&Stage) -> Outcome) -> Case {
    Case { name, deadline: Duration::from_secs(180), play }
}

/// A server with `ada`, and its address as browsers know it.
fn server(stage: &Stage, more: &str) -> Outcome<(Countersign, String)> {
    let port = free_port()?;
    let config = format!("[listen.http.main]\naddress = \"127.0.0.1:{port}\"\n\n{more}");
    let config = config.replace("PORT", &port.to_string());
    let server = Countersign::start_full(stage, &config)?;
    user(Profile::Debug, &server.data, &["add", "ada", "--password-stdin"], PASSWORD)?;
    Ok((server, format!("http://localhost:{port}")))
}

fn log_in(browser: &Browser, base: &str, password: &str) -> Outcome {
    browser.open(&format!("{base}/login?lang=en"))?;
    browser.fill("input[autocomplete=username]", "ada")?;
    browser.fill("input[autocomplete=current-password]", password)?;
    browser.click("button.primary")
}

fn login(stage: &Stage) -> Outcome {
    let (_server, base) = server(stage, "")?;
    let browser = Browser::start(stage, "browser", true)?;
    browser.open(&format!("{base}/login?lang=en"))?;
    let first = browser.focus()?;
    ensure!(first == "qa-0", "the focus is on {first:?}");
    log_in(&browser, &base, "wrong")?;
    browser.says("That did not work.")?;
    let name = browser.attribute("input[autocomplete=username]", "value")?;
    ensure!(name.as_deref() == Some("ada"), "the name is {name:?}");
    let focus = browser.focus()?;
    ensure!(focus == "qa-1", "with the name known the focus is on {focus:?}");

    log_in(&browser, &base, PASSWORD)?;
    browser.at("/account")?;
    browser.says("Logged in as ada")?;
    let cookies = browser.cookies()?;
    let session = cookies.iter().find(|cookie| cookie["name"] == "countersign");
    let session = session.during("the session's cookie")?;
    ensure!(session["httpOnly"] == true && session["sameSite"] == "Lax", "{session}");
    let seen = browser.script("return document.cookie")?;
    ensure!(seen == "", "a script of the page sees {seen}");
    // The policy of the page stops what is written into it.
    let ran = browser.script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; \
         document.body.append(s); return window.ran === 1",
    )?;
    ensure!(ran == false, "a script was written into the page and ran");

    // Another browser of the same person, which is then sent away.
    let other = Browser::start(stage, "other", true)?;
    log_in(&other, &base, PASSWORD)?;
    other.at("/account")?;
    browser.open(&format!("{base}/account?lang=en"))?;
    browser.click("#sessions ~ form button.danger")?;
    browser.at("?done=sessions")?;
    other.open(&format!("{base}/account"))?;
    other.at("/login?return_to=%2Faccount")?;

    browser.click("form[action='/logout'] button")?;
    browser.says("Logged out")?;
    browser.open(&format!("{base}/account"))?;
    browser.at("/login?return_to=%2Faccount")
}

fn without_scripts(stage: &Stage) -> Outcome {
    let (_server, base) = server(stage, "")?;
    let browser = Browser::start(stage, "browser", false)?;
    log_in(&browser, &base, PASSWORD)?;
    browser.at("/account")?;
    browser.says("Logged in as ada")?;
    // Everything but passkeys works without.
    browser.click("form[action='/account/recovery'] button")?;
    browser.says("Keep these codes")
}

fn new_password(stage: &Stage) -> Outcome {
    let (server, base) = server(stage, "")?;
    user(Profile::Debug, &server.data, &["set", "ada", "--must-change"], "")?;
    let browser = Browser::start(stage, "browser", true)?;
    log_in(&browser, &base, PASSWORD)?;
    browser.says("Your password must be changed.")?;
    browser.says("as ada")?;
    let fields = "input[autocomplete=new-password]";
    let both = |one: &str, two: &str| -> Outcome {
        browser.fill(&format!("{fields}:not([id$=again])"), one)?;
        browser.fill(&format!("{fields}[id$=again]"), two)?;
        browser.click("button.primary")
    };
    both("battery staple horse", "battery staple house")?;
    browser.says("The two passwords are different.")?;
    both("short", "short")?;
    browser.says("at least 8 characters")?;
    both("battery staple horse", "battery staple horse")?;
    browser.at("/account")?;
    browser.forget()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.says("That did not work.")?;
    log_in(&browser, &base, "battery staple horse")?;
    browser.at("/account")
}

/// The code that an app would show `late` seconds from now.
fn code(secret: &str, late: u64) -> Outcome<String> {
    let totp = Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_secret(totp_rs::Secret::try_from_base32(secret).during("the secret")?)
        .build()
        .during("a generator")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).during("the clock")?.as_secs();
    Ok(totp.generate(now + late).to_string())
}

fn one_time_codes(stage: &Stage) -> Outcome {
    let (_server, base) = server(stage, "[policy]\nrequire = [\"password\", \"otp?\"]\n")?;
    let browser = Browser::start(stage, "browser", true)?;
    log_in(&browser, &base, PASSWORD)?;
    browser.at("/account")?;
    browser.click("form[action='/account/otp'] button")?;
    // A slow machine shows the page before the picture is decoded.
    let picture = browser.script(
        "const picture = document.querySelector('img.qr'); \
         return picture.decode().then(() => picture.naturalWidth)",
    )?;
    ensure!(picture.as_u64().is_some_and(|width| width > 100), "no picture: {picture}");
    let secret = browser.text_of(".secret")?.replace(' ', "");
    browser.fill("#code", "000000")?;
    browser.click("button.primary")?;
    browser.says("The code is not right.")?;
    let same = browser.text_of(".secret")?.replace(' ', "");
    ensure!(same == secret, "a wrong code made another secret");
    browser.fill("#label", "telephone")?;
    browser.fill("#code", &code(&secret, 0)?)?;
    browser.click("button.primary")?;
    browser.at("?done=otp")?;
    browser.says("telephone")?;

    browser.forget()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.says("One-time code")?;
    browser.fill("input[autocomplete=one-time-code]", "000 000")?;
    browser.click("button.primary")?;
    browser.says("That did not work.")?;
    log_in(&browser, &base, PASSWORD)?;
    // The step of the enrolment is used up; the next one is near enough.
    browser.fill("input[autocomplete=one-time-code]", &code(&secret, 30)?)?;
    browser.click("button.primary")?;
    browser.at("/account")?;
    browser.says("last used")?;

    // On the day on which the telephone is lost.
    browser.click("form[action='/account/recovery'] button")?;
    let recovery = browser.text_of(".codes li")?;
    browser.forget()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.click("details.letters summary")?;
    browser.fill("details.letters input", &recovery)?;
    browser.click("button.primary")?;
    browser.at("/account")?;
    browser.says("Codes that are left: 9")
}

fn passkeys(stage: &Stage) -> Outcome {
    let (_server, base) = server(
        stage,
        "[passkeys]\nrp_id = \"localhost\"\norigins = [\"http://localhost:PORT\"]\n\n\
         [policy]\nrequire = [\"password\", \"passkey?\"]\n\n\
         [[policy.rules]]\nservice = \"alone\"\nrequire = [\"any\"]\n",
    )?;
    let browser = Browser::start(stage, "browser", true)?;
    browser.authenticator()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.at("/account")?;
    browser.click("form[action='/account/passkeys'] button")?;
    browser.fill("#label", "this machine")?;
    browser.click("[data-passkey-button]")?;
    browser.at("?done=passkey")?;
    browser.says("this machine")?;

    // As the second factor.
    browser.forget()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.click("[data-passkey-button]")?;
    browser.at("/account")?;

    // Alone: nothing is typed.
    browser.forget()?;
    browser.open(&format!("{base}/login?service=alone&lang=en"))?;
    browser.click("button[name=open]")?;
    browser.click("[data-passkey-button]")?;
    browser.at("/account")?;
    browser.says("Logged in as ada")
}

/// Where pictures of the pages go, for people to look at: `COUNTERSIGN_PICTURES`, else nowhere that lasts.
fn pictures(stage: &Stage) -> Outcome<PathBuf> {
    match std::env::var_os("COUNTERSIGN_PICTURES") {
        Some(folder) => {
            std::fs::create_dir_all(&folder).during("COUNTERSIGN_PICTURES")?;
            Ok(folder.into())
        }
        None => stage.folder("pictures"),
    }
}

fn looks(stage: &Stage) -> Outcome {
    let (_server, base) = server(stage, "[policy]\nrequire = [\"password\", \"otp?\"]\n")?;
    let browser = Browser::start(stage, "browser", true)?;
    let folder = pictures(stage)?;
    let take = |name: &str| -> Outcome {
        for (look, width, height, scheme) in [
            ("light", 1280, 900, "light"),
            ("dark", 1280, 900, "dark"),
            ("phone", 390, 844, "light"),
            ("narrow", 320, 568, "dark"),
            // A person who has everything twice as large has half the room.
            ("large", 640, 450, "light"),
        ] {
            browser.look(width, height, scheme)?;
            let wide = browser.script("return document.documentElement.scrollWidth")?;
            ensure!(
                wide.as_u64().is_some_and(|wide| wide <= u64::from(width)),
                "{name} is {wide} wide where there is room for {width}"
            );
            let faint = browser.script(CONTRAST)?;
            ensure!(faint.as_array().is_some_and(Vec::is_empty), "{name} {look}: {faint}");
            let unnamed = browser.script(UNNAMED)?;
            ensure!(unnamed.as_array().is_some_and(Vec::is_empty), "{name}: {unnamed}");
            browser.picture(&folder.join(format!("{name}-{look}.png")))?;
        }
        browser.look(1280, 900, "light")
    };
    browser.open(&format!("{base}/login?lang=en"))?;
    take("login")?;
    browser.open(&format!("{base}/login?lang=de&service=wiki"))?;
    take("german")?;
    log_in(&browser, &base, "wrong")?;
    browser.says("That did not work.")?;
    take("refused")?;
    log_in(&browser, &base, PASSWORD)?;
    browser.at("/account")?;
    browser.click("form[action='/account/otp'] button")?;
    browser.says("QR code").or_else(|_| browser.says("Read this image"))?;
    take("enrolment")?;
    let secret = browser.text_of(".secret")?.replace(' ', "");
    browser.fill("#code", &code(&secret, 0)?)?;
    browser.click("button.primary")?;
    browser.at("?done=otp")?;
    browser.click("form[action='/account/recovery'] button")?;
    take("recovery")?;
    browser.open(&format!("{base}/account?lang=en"))?;
    take("account")?;
    browser.forget()?;
    log_in(&browser, &base, PASSWORD)?;
    browser.says("One-time code")?;
    take("code")
}

/// Texts whose contrast is below 4.5:1 (WCAG 2.2, success criterion 1.4.3), with the ratio.
const CONTRAST: &str = r#"
const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const parts = (color) => color.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const [r, g, b, a = 1] = parts(getComputedStyle(one).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const faint = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const shown = own || element.matches('input:not([type=hidden]), select');
  if (!shown || !element.checkVisibility() || element.closest('.hidden')) continue;
  const [one, two] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
  const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  if (ratio < 4.5) faint.push(`${element.tagName} ${element.className} ${ratio.toFixed(2)}`);
}
return faint;
"#;

/// Fields and buttons without a name for who cannot see them.
const UNNAMED: &str = r#"
const unnamed = [];
for (const element of document.querySelectorAll('input:not([type=hidden]), select, button, a')) {
  if (!element.checkVisibility()) continue;
  const name = element.getAttribute('aria-label') || (element.labels?.length && element.labels[0].textContent)
    || element.textContent;
  if (!name || !name.trim()) unnamed.push(element.outerHTML.slice(0, 120));
  const about = element.getAttribute('aria-describedby');
  if (about && !document.getElementById(about)) unnamed.push(`${about} is not there`);
}
return unnamed;
"#;
