//! `countersign check-config`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use comfy_table::Table;
use countersign::{Carrier as _, Checker, Order, Plaintext, Results, When, World as _};
use countersign_sasl::{Login, Plain};
use countersign_server::config::{Config, PolicyRow, policy_table};
use countersign_server::groups::Groups;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};

use crate::args::PlaceArgs;
use crate::failure::Failure;
use crate::place::{Place, block_on, hasher};
use crate::table::{print, table};

pub(crate) fn run(args: &PlaceArgs) -> Result<(), Failure> {
    let place = Place::of(args)?;
    let config = &place.config;
    let checkers = block_on(build(&place))?;
    println!("data       {}", config.data.display());
    let exists = match block_on(place.store_if_made())?.is_some() {
        true => "",
        false => " (made by the first start)",
    };
    println!("accounts   {}{exists}", config.store);
    match config.audit.enabled {
        true => println!("audit      {}", config.data.join(&config.audit.path).display()),
        false => println!("audit      off: no attempt is recorded"),
    }
    let conflicts = block_on(conflicts(&place))?;
    if !conflicts.is_empty() {
        return Err(Failure::refused(conflicts.join("\n")));
    }
    println!("\nlistens");
    let mut unusable = 0;
    for (name, section) in &config.http {
        let scheme = if section.tls.is_some() { "https" } else { "http" };
        let parts: Vec<_> = section.parts().words().collect();
        println!("  http {name}: {scheme}://{} ({})", section.address, parts.join(", "));
        match config.tls(name, section) {
            Ok(None) => {}
            Ok(Some(tls)) => match tls.validity(SystemWorld::new().now().unix) {
                Ok(said) => println!("    {said}"),
                Err(said) => println!("    warning: {said}"),
            },
            Err(error) => {
                unusable += 1;
                println!("    cannot be served: {error}");
            }
        }
    }
    for (name, section) in &config.dovecot {
        socket(config, "dovecot", name, &section.path, section.mode.0);
    }
    for (name, section) in &config.dovecot_master {
        socket(config, "dovecot-master", name, &section.path, section.mode.0);
    }
    for (name, section) in &config.saslauthd {
        socket(config, "saslauthd", name, &section.path, section.mode.0);
    }
    if config.http.is_empty() && config.dovecot.is_empty() && config.saslauthd.is_empty() {
        println!("  nowhere: nobody could log in");
    }
    println!("\nasks; {}", order(config.order));
    for (index, (checker, built)) in config.checkers.iter().zip(&checkers).enumerate() {
        let (name, settings) = checker;
        println!("  {}. {name}: {}", index + 1, settings.describe());
        match built {
            Ok(checker) => println!("     for {}", mechanisms(checker.as_ref())),
            Err(error) => println!("     cannot be asked: {error}"),
        }
    }
    if let Ok(built) = checkers.iter().cloned().collect::<Result<Vec<_>, _>>() {
        let portal = config.portal((), built).map_err(|e| Failure::refused(e.to_string()))?;
        println!("\npolicy");
        print(&policy(&policy_table(&portal)));
    }
    if unusable > 0 {
        let what = "a listener cannot be served: the server would not start";
        return Err(Failure::refused(what));
    }
    let broken = checkers.iter().filter(|built| built.is_err()).count();
    match broken {
        0 => Ok(()),
        _ => Err(Failure::refused(format!(
            "{broken} of {} checkers cannot be asked: the server would not start",
            checkers.len()
        ))),
    }
}

/// Where the group table's sources contradict each other.
async fn conflicts(place: &Place) -> Result<Vec<String>, Failure> {
    let Some(store) = place.store_if_made().await? else { return Ok(Vec::new()) };
    let conflicts = Groups::new(store.clone(), &place.config.groups).conflicts().await;
    store.close().await;
    Ok(conflicts?)
}

/// What the policy comes to: a row for each rule, and for each thing the first row that matches and says
/// something about it decides.
fn policy(rows: &[PolicyRow]) -> Table {
    let head = ["when", "lets in", "begins with", "requires", "readable secrets", "asks"];
    let mut table = table(&head);
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    for row in rows {
        let terms = &row.terms;
        let groups = !row.when.groups.is_empty();
        let of_the_beginning = |text: String| if groups { "-".to_owned() } else { text };
        let require = terms.require.iter().flatten().map(ToString::to_string);
        let mut require = require.collect::<Vec<_>>().join(", then ");
        if terms.code_in_password == Some(true) && !groups {
            require.push_str(" (`password,code` where it cannot be asked)");
        }
        let plaintext = match terms.plaintext.unwrap_or_default() {
            Plaintext::Always => "always",
            Plaintext::Secured => "over TLS, or on this machine",
            Plaintext::Never => "never",
        };
        let asks = terms.checkers.iter().flatten().map(|(name, results)| asked(name, results));
        table.add_row([
            format!("{}{}", row.name, when(&row.when)),
            if terms.allow == Some(false) { "nobody".into() } else { "yes".to_owned() },
            of_the_beginning(row.begins.join(", ")),
            require,
            of_the_beginning(plaintext.to_owned()),
            of_the_beginning(asks.collect::<Vec<_>>().join("\n")),
        ]);
    }
    table
}

fn when(when: &When) -> String {
    let mut text = String::new();
    let mut say = |what: &str, all: Vec<String>| {
        if !all.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{what} {}", all.join(", "));
        }
    };
    say("service", when.services.iter().map(ToString::to_string).collect());
    say("network", when.networks.iter().map(ToString::to_string).collect());
    say("transport", when.transports.iter().map(|t| format!("{t:?}").to_lowercase()).collect());
    say("group", when.groups.clone());
    text
}

/// A checker, with those of its results that do not come to what one would expect.
fn asked(name: &str, results: &Results) -> String {
    let usual = Order::FirstKnown.results();
    let mut text = name.to_owned();
    for (what, then, usual) in [
        ("granted", results.granted, usual.granted),
        ("wrong", results.wrong, usual.wrong),
        ("unknown", results.unknown, usual.unknown),
        ("refused", results.refused, usual.refused),
        ("fault", results.fault, usual.fault),
    ] {
        if then != usual {
            let _ = write!(text, "\n  {what}: {}", format!("{then:?}").to_lowercase());
        }
    }
    text
}

/// Each checker of the configuration, or why there is none.
pub(crate) type Built = Vec<Result<Arc<dyn Checker>, String>>;

/// Makes every checker as the server would, which opens what it reads. Where there is no store yet they
/// get an empty one that goes away.
pub(crate) async fn build(place: &Place) -> Result<Built, Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::broken(format!("cannot make a temporary folder: {error}")))?;
    let store = match place.store_if_made().await? {
        Some(store) => store,
        None => Store::open(folder.path().join("accounts.db"), OpenOptions::create()).await?,
    };
    let world = Arc::new(SystemWorld::new());
    let parts = place.config.parts(Some(store.clone()), hasher()?, world)?;
    let mut built = Vec::new();
    for (name, settings) in &place.config.checkers {
        let checker = place.config.build(name, &**settings, &parts).await;
        built.push(checker.map_err(|error| error.to_string()));
    }
    store.close().await;
    Ok(built)
}

/// What a checker offers, and in which clothing.
pub(crate) fn mechanisms(checker: &dyn Checker) -> String {
    let mut text = String::new();
    for mechanism in checker.mechanisms() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&mechanism.name);
        let carriers = [(Plain.carries(), Plain.name()), (Login.carries(), Login.name())];
        let carriers = carriers.iter().filter(|(inner, _)| mechanism.is(inner));
        let carriers: Vec<_> = carriers.map(|(_, name)| *name).collect();
        if !carriers.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, " (also as {})", carriers.join(" and "));
        }
    }
    text
}

/// What several checkers come to, in words.
pub(crate) fn order(order: Order) -> &'static str {
    match order {
        Order::FirstKnown => "the first that knows the user decides",
        Order::FirstSuccess => "the first that says yes lets in",
        Order::All => "all must say yes",
        _ => "under a policy that this version has no words for",
    }
}

fn socket(config: &Config, kind: &str, name: &str, path: &Path, mode: u32) {
    println!("  {kind} {name}: {} (mode {mode:04o})", config.data.join(path).display());
}
