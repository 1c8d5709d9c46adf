//! `countersign group …`: groups, on the store itself.

use countersign_server::admin::{Admin, GroupRecord, Listing, MemberView, NewGroup};
use serde::Serialize;

use crate::args::{GroupAddArgs, GroupCommand, GroupNameArgs, GroupSetArgs, ListArgs};
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::{or_dash, print, print_json, shown, table};

pub(crate) fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Add(args) => add(args),
        GroupCommand::Set(args) => set(args),
        GroupCommand::List(args) => list(&args),
        GroupCommand::Show(args) => show(&args),
        GroupCommand::Remove(args) => remove(&args),
    }
}

fn add(args: GroupAddArgs) -> Result<(), Failure> {
    let GroupAddArgs { name, place, gid, description } = args;
    let place = Place::of(&place)?;
    let new = NewGroup { name: name.clone(), gid, description };
    block_on(async { Ok(place.admin().await?.add_group(new).await?) })?;
    place.tell();
    println!("added the group `{name}`");
    Ok(())
}

fn set(args: GroupSetArgs) -> Result<(), Failure> {
    let GroupSetArgs { name, place, gid, no_gid, description } = args;
    if gid.is_none() && !no_gid && description.is_none() {
        return Err(Failure::usage("nothing to change: say --gid, --no-gid or --description"));
    }
    let place = Place::of(&place)?;
    block_on(async {
        let admin = place.admin().await?;
        let there = admin.group(&name).await?;
        let gid = if no_gid { None } else { gid.or(there.gid) };
        let description = description.unwrap_or(there.description);
        Ok(admin.change_group(NewGroup { name: name.clone(), gid, description }).await?)
    })?;
    place.tell();
    println!("changed the group `{name}`");
    Ok(())
}

fn remove(args: &GroupNameArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    block_on(async { Ok(place.admin().await?.remove_group(&args.name).await?) })?;
    place.tell();
    println!("removed the group `{}`", args.name);
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let groups = block_on(async {
        let admin = place.admin().await?;
        let mut listing = Listing { prefix: args.prefix.clone(), ..Listing::default() };
        let mut groups = Vec::<GroupRecord>::new();
        loop {
            let page = admin.groups(&listing).await?;
            let Some(last) = page.last() else { return Ok(groups) };
            listing.after = Some(last.name.clone());
            groups.extend(page);
        }
    })?;
    if args.json {
        return print_json(&groups);
    }
    let mut table = table(&["name", "number", "description"]);
    for GroupRecord { name, gid, description } in &groups {
        table.add_row([shown(name), number(*gid), or_dash(Some(description))]);
    }
    print(&table);
    Ok(())
}

/// A group with everybody in it.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    group: GroupRecord,
    members: Vec<MemberView>,
}

fn show(args: &GroupNameArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let Whole { group, members } = block_on(async {
        let admin = place.admin().await?;
        let group = admin.group(&args.name).await?;
        let members = members(&admin, &args.name).await?;
        Ok(Whole { group, members })
    })?;
    if args.json {
        return print_json(&Whole { group, members });
    }
    println!("{:<12} {}", "name", shown(&group.name));
    println!("{:<12} {}", "number", number(group.gid));
    println!("{:<12} {}", "description", or_dash(Some(&group.description)));
    for member in &members {
        let mark = if member.admin { " (admin)" } else { "" };
        println!("{:<12} {}{mark}", "member", shown(&member.name));
    }
    Ok(())
}

async fn members(admin: &Admin, group: &str) -> Result<Vec<MemberView>, Failure> {
    let (mut listing, mut members) = (Listing::default(), Vec::<MemberView>::new());
    loop {
        let page = admin.members(group, &listing).await?;
        let Some(last) = page.last() else { return Ok(members) };
        listing.after = Some(last.name.clone());
        members.extend(page);
    }
}

fn number(gid: Option<u32>) -> String {
    gid.map_or_else(|| "-".to_owned(), |gid| gid.to_string())
}
