//! `countersign throttle …`: who is slowed down for guessing, on the store itself.

use countersign_server::admin::{Admin, ThrottleFilter, ThrottleListing, ThrottleView};
use countersign_store::limits::PAGE;

use crate::args::throttle::{ThrottleClearArgs, ThrottleCommand, ThrottleListArgs};
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::{or_dash, print, table, when};

pub(crate) fn run(command: ThrottleCommand) -> Result<(), Failure> {
    match command {
        ThrottleCommand::List(args) => list(args),
        ThrottleCommand::Clear(args) => clear(args),
    }
}

fn list(args: ThrottleListArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let throttles = block_on(async { all(&place.admin().await?, args.user).await })?;
    if args.json {
        let text = serde_json::to_string_pretty(&throttles);
        println!("{}", text.map_err(|error| Failure::broken(error.to_string()))?);
        return Ok(());
    }
    let mut table = table(&["user", "source", "failures", "delayed until", "last"]);
    for throttle in &throttles {
        table.add_row([
            or_dash(throttle.user.as_deref()),
            or_dash(throttle.source.as_deref()),
            throttle.failures.to_string(),
            when(throttle.delayed_until),
            throttle.last.to_string(),
        ]);
    }
    print(&table);
    Ok(())
}

async fn all(admin: &Admin, user: Option<String>) -> Result<Vec<ThrottleView>, Failure> {
    let mut listing = ThrottleListing { user, ..ThrottleListing::default() };
    let mut throttles = Vec::new();
    loop {
        let page = admin.throttles(listing.clone()).await?;
        let whole = page.len() == PAGE;
        throttles.extend(page);
        let Some(last) = throttles.last().filter(|_| whole) else { return Ok(throttles) };
        listing.after_user = Some(last.user.clone().unwrap_or_default());
        listing.after_source = Some(last.source.clone().unwrap_or_default());
    }
}

fn clear(args: ThrottleClearArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let ThrottleClearArgs { user, source, all, .. } = args;
    let filter = ThrottleFilter { user, source, all };
    let done = block_on(async { Ok(place.admin().await?.clear_throttles(filter).await?) })?;
    place.tell();
    match done.cleared {
        1 => println!("cleared 1 throttle"),
        many => println!("cleared {many} throttles"),
    }
    Ok(())
}
