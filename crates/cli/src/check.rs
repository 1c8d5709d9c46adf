//! `countersign check-config`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use countersign::{Carrier as _, Checker, Order, World as _};
use countersign_sasl::{Login, Plain};
use countersign_server::config::Config;
use countersign_server::groups::Groups;
use countersign_server::registry::Parts;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};

use crate::args::PlaceArgs;
use crate::failure::Failure;
use crate::place::{Place, block_on, hasher};

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
    println!("\nasks, for every service; {}", order(config.order));
    for (index, (checker, built)) in config.checkers.iter().zip(&checkers).enumerate() {
        let (name, settings) = checker;
        println!("  {}. {name}: {}", index + 1, settings.describe());
        match built {
            Ok(checker) => println!("     for {}", mechanisms(checker.as_ref())),
            Err(error) => println!("     cannot be asked: {error}"),
        }
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
    let parts = Parts {
        store: store.clone(),
        pool: hasher()?,
        world: Arc::new(SystemWorld::new()),
        recipe: place.config.recipe(),
    };
    let settings = place.config.checkers.iter();
    let built = settings
        .map(|(name, settings)| {
            let built = place.config.build(name, &**settings, &parts);
            built.map_err(|error| error.to_string())
        })
        .collect();
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
