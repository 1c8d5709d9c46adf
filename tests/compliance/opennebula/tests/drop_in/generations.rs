//! Each generation of oned, byte for byte, and what a driver of it gets.

use std::fs;

use countersign_interop::runner::{Case, case};
use countersign_interop::{Context as _, Outcome, Stage, ensure};

use crate::oned::{Oned, Site};

pub(crate) const CASES: &[Case] = &[
    case("starts_as_oned_starts_it", starts),
    case("generation_5_4", by_arguments),
    case("generation_5_6", |stage| old(stage, "5.12.0")),
    case("generation_6_0", |stage| raw(stage, "6.0.0")),
    case("generation_6_2", |stage| raw(stage, "6.2.0")),
    case("generation_6_4", |stage| new(stage, "6.8.0", "<PASSWORD>-</PASSWORD>")),
    case("generation_7_0", |stage| new(stage, "7.0.0", "<PASSWORD>-</PASSWORD>")),
    case("generation_7_3_80", |stage| new(stage, "7.3.80", "<PASSWORD/>")),
    case("version_of_the_installation", installed_version),
    case("all_installed_drivers", all_installed),
    case("settings_that_are_wrong", wrong_settings),
    case("ends_with_finalize", finalize),
    case("ends_with_its_pipe", pipe_closed),
];

/// Keeps what it is given, and says yes.
const SHOW: &str = "#!/bin/sh\ncat > got; printf '%s\\n' \"$@\" > arguments; env > environment\necho \"show ada kept *100 101\"\n";

fn show(stage: &Stage, version: &str) -> Outcome<(Site, Oned)> {
    let site = Site::new(stage)?;
    site.driver("show", SHOW)?;
    site.settings(&format!("version = \"{version}\"\n"))?;
    let oned = site.oned("--authn show,other")?;
    Ok((site, oned))
}

fn got(site: &Site, file: &str) -> Outcome<String> {
    fs::read_to_string(site.var(file)).during(file)
}

fn starts(stage: &Stage) -> Outcome {
    let (site, mut oned) = show(stage, "6.8.0")?;
    // oned waits for ten seconds, thirty in old versions; a user waits, too.
    ensure!(oned.greeting.as_secs() < 5, "INIT took {:?}", oned.greeting);
    oned.send("AUTHENTICATE  0 2 show ada - eA== \n\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    let environment = got(&site, "environment")?;
    ensure!(environment.contains("ONE_LOCATION="), "no ONE_LOCATION: {environment}");
    ensure!(!environment.contains("ONEDS_OWN_SECRET"), "oned's environment: {environment}");
    Ok(())
}

fn by_arguments(stage: &Stage) -> Outcome {
    let (site, mut oned) = show(stage, "5.4.0")?;
    oned.send("AUTHENTICATE 0 2 show ada stored s'e$c\"ret\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    ensure!(
        got(&site, "arguments")? == "ada\nstored\ns'e$c\"ret\n",
        "{}",
        got(&site, "arguments")?
    );
    ensure!(got(&site, "got")?.is_empty(), "a document: {}", got(&site, "got")?);
    Ok(())
}

fn document(stored: &str, secret: &str) -> String {
    format!(
        "<AUTHN>\n  <USERNAME>ada</USERNAME>\n  {stored}\n  <SECRET>{secret}</SECRET>\n</AUTHN>"
    )
}

fn old(stage: &Stage, version: &str) -> Outcome {
    let (site, mut oned) = show(stage, version)?;
    oned.send("AUTHENTICATE 0 -1 show ada - a&b<ä\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    let wanted = document("<PASSWORD>-</PASSWORD>", "a&amp;b&lt;&#xE4;");
    ensure!(got(&site, "got")? == wanted, "{}", got(&site, "got")?);
    // A blank in a secret makes a field too many; it is answered, and at once.
    oned.send("AUTHENTICATE 1 2 show ada - a b\n")?;
    let refused = oned.answer("AUTHENTICATE", 1)?;
    ensure!(refused.starts_with("AUTHENTICATE FAILURE 1 7 fields instead of 6"), "{refused}");
    Ok(())
}

fn raw(stage: &Stage, version: &str) -> Outcome {
    let (site, mut oned) = show(stage, version)?;
    oned.send("AUTHENTICATE  0 -1 show ada - a&b \n\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    let wanted = document("<PASSWORD>-</PASSWORD>", "a&amp;b");
    ensure!(got(&site, "got")? == wanted, "{}", got(&site, "got")?);
    Ok(())
}

fn new(stage: &Stage, version: &str, nothing: &str) -> Outcome {
    let (site, mut oned) = show(stage, version)?;
    // base64 of `p w&ü`
    oned.send("AUTHENTICATE  0 -1 show ada - cCB3JsO8 \n\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    ensure!(got(&site, "got")? == document(nothing, "p w&amp;&#xFC;"), "{}", got(&site, "got")?);
    oned.send("AUTHENTICATE  1 2 show ada stored cCB3JsO8 \n\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 1 show ada kept *100 101"])?;
    let wanted = document("<PASSWORD>stored</PASSWORD>", "p w&amp;&#xFC;");
    ensure!(got(&site, "got")? == wanted, "{}", got(&site, "got")?);
    // What makes OpenNebula's own manager fall silent, so that oned waits for 90 seconds: an empty secret, an empty
    // stored password, a NUL in the secret, bytes that are no text, nonsense.
    oned.send("AUTHENTICATE  2 2 show ada -  \n\nAUTHENTICATE  3 2 show ada  eA== \n\n")?;
    let refused = oned.answer("AUTHENTICATE", 2)?;
    ensure!(refused.starts_with("AUTHENTICATE FAILURE 2 "), "{refused}");
    let empty = oned.answer("AUTHENTICATE", 3)?;
    ensure!(empty.starts_with("AUTHENTICATE SUCCESS 3 "), "{empty}");
    ensure!(got(&site, "got")?.contains(nothing), "{}", got(&site, "got")?);
    for (id, secret) in [(4, "YQBi"), (5, "//8="), (6, "###")] {
        oned.send(&format!("AUTHENTICATE  {id} 2 show ada - {secret} \n\n"))?;
        let refused = oned.answer("AUTHENTICATE", id)?;
        ensure!(refused.starts_with(&format!("AUTHENTICATE FAILURE {id} ")), "{refused}");
    }
    Ok(())
}

fn installed_version(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("show", SHOW)?;
    fs::write(site.var("remotes/VERSION"), "5.4.1\n").during("VERSION")?;
    let mut oned = site.oned("--authn show")?;
    oned.send("AUTHENTICATE 0 2 show ada stored secret\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    ensure!(got(&site, "arguments")? == "ada\nstored\nsecret\n", "{}", got(&site, "arguments")?);
    Ok(())
}

fn all_installed(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("show", SHOW)?;
    fs::create_dir(site.var("remotes/auth/empty")).during("a folder")?;
    let mut oned = site.oned("")?;
    oned.send("AUTHENTICATE  0 2 show ada - eA== \n\nAUTHENTICATE  1 2 empty ada - eA== \n\n")?;
    let missing = oned.answer("AUTHENTICATE", 1)?;
    ensure!(
        missing == "AUTHENTICATE FAILURE 1 Authentication driver 'empty' not available",
        "{missing}"
    );
    let shown = oned.answer("AUTHENTICATE", 0)?;
    ensure!(shown.starts_with("AUTHENTICATE SUCCESS 0 "), "{shown}");
    Ok(())
}

fn wrong_settings(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("show", SHOW)?;
    for (settings, argument, why) in [
        ("verison = \"6.8\"\n", "--authn show", "verison"),
        ("answer_within = \"2m\"\n", "--authn show", "oned gives up after 90 seconds"),
        ("[driver.exec.\"../show\"]\n", "--authn show", "not allowed in a name"),
        ("", "--auhtn show", "unexpected argument"),
    ] {
        site.settings(settings)?;
        let mut oned = site.oned(argument)?;
        let said = oned.line()?;
        ensure!(said.starts_with("LOG E -1 "), "{said}");
        oned.send("AUTHENTICATE  0 2 show ada - eA== \n\n")?;
        let refused = oned.answer("AUTHENTICATE", 0)?;
        ensure!(refused.starts_with("AUTHENTICATE FAILURE 0 "), "{refused}");
        ensure!(refused.contains(why), "{refused:?} without {why:?}");
    }
    Ok(())
}

fn finalize(stage: &Stage) -> Outcome {
    let (_site, mut oned) = show(stage, "7.0.0")?;
    oned.send("AUTHENTICATE  0 2 show ada - eA== \n\nFINALIZE\n")?;
    oned.expect(&["AUTHENTICATE SUCCESS 0 show ada kept *100 101"])?;
    let code = oned.ended()?;
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}

fn pipe_closed(stage: &Stage) -> Outcome {
    let (_site, mut oned) = show(stage, "7.0.0")?;
    oned.leave();
    let code = oned.ended()?;
    ensure!(code == Some(255), "{code:?}");
    Ok(())
}
