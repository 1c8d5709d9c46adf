//! `countersign audit`

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use countersign_server::admin::AuditView;
use countersign_server::audit::{Entry, Filter, newest};
use countersign_store::{AuditEvent, AuditFilter};

use crate::args::AuditArgs;
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::{or_dash, print, shown, table};

/// How long to wait between two looks at a file that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(args: AuditArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let filter = Filter {
        user: args.user,
        service: args.service,
        outcome: args.outcome,
        reason: args.reason,
        front_end: args.front_end,
        remote: args.remote,
        since: args.since.map(|since| since.0.0),
        until: args.until.map(|until| until.0.0),
    };
    if args.follow || args.file {
        return from_file(&place, &filter, args.limit, args.follow, args.json);
    }
    if filter.front_end.is_some() {
        let why = "the store does not keep which front end it was: add --file";
        return Err(Failure::usage(why));
    }
    let events = block_on(from_store(&place, &filter, args.limit))?;
    let events: Vec<_> = events.into_iter().map(AuditView::from).collect();
    if args.json {
        for event in &events {
            println!("{}", json(event)?);
        }
    } else if events.is_empty() {
        nothing();
    } else {
        show(&events);
    }
    Ok(())
}

/// The newest events first, in as many pages as it takes.
async fn from_store(
    place: &Place,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<AuditEvent>, Failure> {
    let store = place.store().await?;
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = AuditFilter {
            user: filter.user.clone(),
            since: filter.since,
            outcome: filter.outcome.clone(),
            before,
            ..AuditFilter::default()
        };
        let page = store.audit(&page).await?;
        let Some(last) = page.last() else { return Ok(found) };
        before = Some(last.id);
        found.extend(page.into_iter().filter(|event| filter.admits(event)));
        if found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

/// The audit file: the newest first like the store's, or in the order of the file when it is followed.
fn from_file(
    place: &Place,
    filter: &Filter,
    limit: usize,
    following: bool,
    json: bool,
) -> Result<(), Failure> {
    if !place.config.audit.enabled {
        return Err(Failure::refused("the audit record is off: set `audit.enabled`"));
    }
    let path = place.config.data.join(&place.config.audit.path);
    let unread = |error: std::io::Error| unread(&path, &error);
    let (mut entries, mut follow) = newest(&path, filter, limit).map_err(unread)?;
    if !following {
        entries.reverse();
        if json {
            return told(entries.iter().try_for_each(|entry| line(&entry.line)));
        }
        let events: Vec<_> = entries.into_iter().map(|e| AuditView::from(e.event)).collect();
        if events.is_empty() {
            nothing();
        } else {
            show(&events);
        }
        return Ok(());
    }
    let say = |entry: &Entry| match json {
        true => line(&entry.line),
        false => line(&one_line(entry)),
    };
    told(entries.iter().try_for_each(say))?;
    drop(entries);
    loop {
        let mut said = Ok(());
        let read = follow.read(|entry| {
            if said.is_ok() && filter.admits_entry(&entry) {
                said = say(&entry);
            }
        });
        match said {
            // Whoever read this has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            said => told(said)?,
        }
        read.map_err(unread)?;
        std::thread::sleep(LOOK_EVERY);
    }
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            ": no server has run here yet, or `audit.path` is elsewhere (--config)"
        }
        _ => "",
    };
    Failure::broken(format!("cannot read the audit file {} ({error}){remedy}", path.display()))
}

fn told(said: std::io::Result<()>) -> Result<(), Failure> {
    match said {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::broken(format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

/// Where a script looks, nothing stays nothing.
fn nothing() {
    eprintln!("nothing is recorded that fits");
}

fn line(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// A record for people while it is followed, when nobody can know how wide a column must be.
fn one_line(entry: &Entry) -> String {
    let event = AuditView::from(entry.event.clone());
    let [at, outcome, user, service, peer, by, why] = cells(&event);
    format!("{at}  {outcome:<8} {user:<16} {service:<9} {peer:<15}  {by}  {why}")
        .trim_end()
        .to_owned()
}

/// Events as a table.
pub(crate) fn show(events: &[AuditView]) {
    let mut table = table(&["when", "outcome", "user", "service", "from", "by", "why"]);
    for event in events {
        table.add_row(cells(event));
    }
    print(&table);
}

fn cells(event: &AuditView) -> [String; 7] {
    let user = match &event.subject {
        Some(subject) if !event.claimed.is_empty() && *subject != event.claimed => {
            format!("{} (as {})", shown(subject), shown(&event.claimed))
        }
        Some(subject) => shown(subject),
        None => or_dash(Some(&event.claimed)),
    };
    let by = [event.checker.as_deref(), event.mechanism.as_deref()];
    let by: Vec<_> = by.into_iter().flatten().map(shown).collect();
    [
        event.at.to_string(),
        shown(&event.outcome),
        user,
        or_dash(Some(&event.service)),
        or_dash(Some(&event.peer)),
        or_dash(Some(&by.join(" "))),
        or_dash(Some(&why(event))),
    ]
}

/// The true reason, and what each checker said where that is more than the reason.
fn why(event: &AuditView) -> String {
    let (detail, tried) = match event.detail.rsplit_once("; ") {
        Some((detail, tried)) if tried.starts_with('{') => (detail, tried),
        _ if event.detail.starts_with('{') => ("", event.detail.as_str()),
        _ => (event.detail.as_str(), ""),
    };
    let tried = serde_json::from_str::<BTreeMap<String, String>>(tried).unwrap_or_default();
    let more = tried.len() > 1 || tried.values().any(|said| *said != event.reason);
    let tried: Vec<_> = match more {
        true => tried.iter().map(|(checker, said)| format!("{checker} {said}")).collect(),
        false => Vec::new(),
    };
    let parts = [&event.reason, detail, &tried.join(", ")].map(str::to_owned);
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

fn json(event: &AuditView) -> Result<String, Failure> {
    serde_json::to_string(event).map_err(|error| Failure::broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_checker_said_is_told_where_it_is_more() {
        let mut event: AuditView = serde_json::from_value(serde_json::json!({
            "id": 1, "at": 0, "outcome": "denied", "claimed": "ada", "subject": null,
            "service": "imap", "peer": "", "checker": null, "mechanism": null,
            "reason": "wrong-credential", "detail": "{\"accounts.main\":\"wrong-credential\"}"
        }))
        .unwrap();
        assert_eq!(why(&event), "wrong-credential");
        event.detail = r#"too late; {"a.b":"unknown-user","c.d":"wrong-credential"}"#.into();
        assert_eq!(
            why(&event),
            "wrong-credential: too late: a.b unknown-user, c.d wrong-credential"
        );
        event.detail = "a; b".into();
        assert_eq!(why(&event), "wrong-credential: a; b");
    }
}
