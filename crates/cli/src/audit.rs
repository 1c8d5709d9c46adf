//! `countersign audit`

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
        let why = [&event.reason, &event.detail].into_iter().filter(|text| !text.is_empty());
        let why: Vec<_> = why.map(|text| shown(text)).collect();
        table.add_row([
            event.at.to_string(),
            shown(&event.outcome),
            user,
            or_dash(Some(&event.service)),
            or_dash(Some(&event.peer)),
            or_dash(Some(&by.join(" "))),
            or_dash(Some(&why.join(": "))),
        ]);
    }
    print(&table);
}

fn json(event: &AuditView) -> Result<String, Failure> {
    serde_json::to_string(event).map_err(|error| Failure::broken(error.to_string()))
}
