//! `countersign user token`, and what is stored for drivers: on the store itself.

use std::io::{IsTerminal as _, Read as _};

use countersign::Secret;
use countersign_checkers::userpool::NewLoginToken;
use zeroize::Zeroizing;

use crate::args::NameArgs;
use crate::args::user_token::{TokenAddArgs, TokenCommand, TokenRemoveArgs};
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::{or_dash, print, print_json, shown, table, when};

/// The longest that is stored for a driver.
const STORED: u64 = 64 * 1024;

pub(crate) fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Add(args) => add(args),
        TokenCommand::List(args) => list(&args),
        TokenCommand::Remove(args) => remove(&args),
    }
}

fn add(args: TokenAddArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let Some(pool) = &place.config.pool else {
        let message = "login tokens count where a user pool is configured: add `[pool]` with its \
                       `checkers` to the configuration, and name it with --config";
        return Err(Failure::usage(message));
    };
    let rules = pool.rules()?;
    let expires = args.expires.0.map(|at| at.0);
    let wanted = NewLoginToken { label: args.label, group: args.group, expires };
    let (secret, view) = block_on(async {
        Ok(place.admin().await?.add_login_token(&args.name, &wanted, &rules).await?)
    })?;
    place.tell();
    println!("{}", secret.to_str().unwrap_or_default());
    let until = view.expires.map_or_else(String::new, |at| format!(" until {at}"));
    eprintln!("it is shown this once; it stands for the password of `{}`{until}", args.name);
    Ok(())
}

fn list(args: &NameArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let tokens = block_on(async { Ok(place.admin().await?.login_tokens_of(&args.name).await?) })?;
    if args.json {
        return print_json(&tokens);
    }
    let mut table = table(&["id", "label", "group", "made", "last used", "expires"]);
    for token in &tokens {
        table.add_row([
            token.id.to_string(),
            or_dash(Some(&token.label)),
            token.group.as_deref().map_or_else(|| "-".to_owned(), shown),
            token.created.to_string(),
            when(token.last_used),
            when(token.expires),
        ]);
    }
    print(&table);
    Ok(())
}

fn remove(args: &TokenRemoveArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let ended = block_on(async {
        Ok(place.admin().await?.remove_login_token(&args.name, args.id).await?)
    })?;
    place.tell();
    println!("removed the token {}", args.id);
    match ended {
        0 => {}
        1 => println!("ended 1 session"),
        many => println!("ended {many} sessions"),
    }
    Ok(())
}

/// What the user's driver compares with, from standard input: it may be a secret, and arguments are none.
pub(crate) fn driver_data(args: &NameArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    if std::io::stdin().is_terminal() {
        let message = "standard input is a terminal: send what the driver compares with, such as \
                       `countersign user driver-data ada < key.pub`";
        return Err(Failure::usage(message));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    let read = std::io::stdin().lock().take(STORED + 1).read_to_end(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    let stored = Secret::from(text.trim_ascii_end());
    block_on(async { Ok(place.admin().await?.store_for_driver(&args.name, stored).await?) })?;
    place.tell();
    println!("stored what the driver of `{}` compares with", args.name);
    Ok(())
}
