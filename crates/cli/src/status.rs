//! `countersign status` and `countersign reload`

use std::collections::BTreeMap;

use countersign_server::control::{self, Told};
use countersign_server::status::{Status, StoreStatus};

use crate::args::{PlaceArgs, StatusArgs};
use crate::failure::Failure;
use crate::place::data;
use crate::table::{print, shown, table};

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let said = answer(control::status(&data(args.place.data.as_deref())?))?;
    let status: Status = serde_json::from_value(said.clone()).map_err(|error| {
        Failure::broken(format!("the server speaks of itself as another version does: {error}"))
    })?;
    if args.json {
        println!("{said}");
    } else {
        show(&status);
    }
    match status.problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failure::refused(problems.join("\n       "))),
    }
}

pub(crate) fn reload(args: &PlaceArgs) -> Result<(), Failure> {
    let said = answer(control::reload(&data(args.data.as_deref())?))?;
    let changed: Vec<String> =
        serde_json::from_value(said).map_err(|error| Failure::broken(error.to_string()))?;
    match changed.as_slice() {
        [] => println!("nothing has changed"),
        changed => println!("changed: {}", changed.join(", ")),
    }
    Ok(())
}

fn answer(told: Told) -> Result<serde_json::Value, Failure> {
    match told {
        Told::Done(said) => Ok(said),
        Told::Refused(why) => Err(Failure::refused(why)),
        Told::NoServer => Err(Failure::usage(
            "no server runs on this data folder: start it with `countersign serve`",
        )),
        Told::Not(error) => Err(Failure::broken(format!(
            "the running server does not answer ({error}); only its own user and root may ask it"
        ))),
    }
}

fn show(status: &Status) {
    let Status { store, hashing, audit, .. } = status;
    println!(
        "version    {}, process {}, up {}",
        status.version,
        status.pid,
        length(status.uptime_s)
    );
    let up = if store.up { "up" } else { "away" };
    let StoreStatus { location, revision, latency_us, .. } = store;
    println!("store      {up}, {}, revision {revision}, {latency_us} µs", shown(location));
    match audit {
        Some(audit) => {
            let failing = if audit.failing { "FAILING, " } else { "" };
            println!("audit      {failing}{}, {} bytes", audit.path.display(), audit.size);
        }
        None => println!("audit      off"),
    }
    println!(
        "hashing    {} threads, {} of {} waiting, {} computed, {} answered from memory ({} kept)",
        hashing.threads,
        hashing.waiting,
        hashing.queue,
        hashing.computed,
        hashing.remembered,
        hashing.entries
    );
    println!("pending    {}", status.pending);
    if let Some(reload) = &status.reload {
        let what = match &reload.error {
            Some(error) => format!("refused: {}", error.lines().next().unwrap_or_default()),
            None if reload.changed.is_empty() => "nothing had changed".to_owned(),
            None => format!("changed {}", reload.changed.join(", ")),
        };
        println!("reload     {}, {what}", reload.at);
    }
    println!();
    let mut logins = table(&["logins", "last minute", "since the start"]);
    let count = |of: &BTreeMap<String, u64>, end| of.get(end).copied().unwrap_or(0).to_string();
    for end in status.logins.keys() {
        logins.add_row([shown(end), count(&status.last_minute, end), count(&status.logins, end)]);
    }
    print(&logins);
    println!();
    let mut listeners = table(&["listener", "at", "connections", "certificate"]);
    for listener in &status.listeners {
        let certificate = listener.certificate.as_deref().unwrap_or("-");
        let connections = format!("{} of {}", listener.connections, listener.limit);
        listeners.add_row([
            shown(&listener.name),
            shown(&listener.address),
            connections,
            shown(certificate),
        ]);
    }
    print(&listeners);
}

fn length(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {}s", seconds % 60),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let told = [0, 3599, 3600, 90_000].map(length);
        assert_eq!(told, ["0m 0s", "59m 59s", "1h 0m", "1d 1h"]);
    }
}
