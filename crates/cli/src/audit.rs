//! `countersign audit`

use std::collections::BTreeMap;

use countersign_server::admin::{AuditQuery, AuditView};

use crate::args::AuditArgs;
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::{or_dash, print, shown, table};

pub(crate) fn run(args: AuditArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let query = AuditQuery {
        user: args.user,
        since: args.since.map(|since| since.0),
        outcome: args.outcome,
        before: None,
        limit: Some(args.limit),
    };
    let events = block_on(async { Ok(place.admin().await?.audit(query).await?) })?;
    if args.json {
        for event in &events {
            println!("{}", json(event)?);
        }
    } else if events.is_empty() {
        // Where a script looks, nothing stays nothing.
        eprintln!("nothing is recorded that fits");
    } else {
        show(&events);
    }
    Ok(())
}

/// Events as a table.
pub(crate) fn show(events: &[AuditView]) {
    let mut table = table(&["when", "outcome", "user", "service", "from", "by", "why"]);
    for event in events {
        let user = match &event.subject {
            Some(subject) if !event.claimed.is_empty() && *subject != event.claimed => {
                format!("{} (as {})", shown(subject), shown(&event.claimed))
            }
            Some(subject) => shown(subject),
            None => or_dash(Some(&event.claimed)),
        };
        let by = [event.checker.as_deref(), event.mechanism.as_deref()];
        let by: Vec<_> = by.into_iter().flatten().map(shown).collect();
        table.add_row([
            event.at.to_string(),
            shown(&event.outcome),
            user,
            or_dash(Some(&event.service)),
            or_dash(Some(&event.peer)),
            or_dash(Some(&by.join(" "))),
            or_dash(Some(&why(event))),
        ]);
    }
    print(&table);
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
