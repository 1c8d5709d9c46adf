//! `countersign user …`: accounts, on the store itself.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use countersign::{Question, Round, Secret, Text};
use countersign_responders::terminal::Terminal;
use countersign_server::admin::{
    Done, Listing, NewPassword, NewUser, UserChange, UserLine, UserView, When, check_new_password,
};
use countersign_server::identity::GroupView;
use zeroize::Zeroizing;

use crate::args::{AddArgs, ListArgs, NameArgs, PasswdArgs, RemoveArgs, SetArgs, UserCommand};
use crate::factors;
use crate::failure::Failure;
use crate::moment::now;
use crate::place::{Place, block_on};
use crate::table::{groups, or_dash, print, print_json, shown, table, when};
use crate::user_token;

pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add(args) => add(args),
        UserCommand::Set(args) => set(args),
        UserCommand::List(args) => list(&args),
        UserCommand::Show(args) => show(&args),
        UserCommand::Remove(args) => remove(&args),
        UserCommand::Passwd(args) => passwd(&args),
        UserCommand::Otp(args) => factors::otp(&args),
        UserCommand::Recovery(args) => factors::recovery(&args),
        UserCommand::AppPassword { command } => factors::app_password(command),
        UserCommand::Token { command } => user_token::run(command),
        UserCommand::DriverData(args) => user_token::driver_data(&args),
        UserCommand::Factors { command } => factors::factors(command),
    }
}

fn add(args: AddArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let name = args.name;
    // A missing store is told before anybody types a password for it.
    block_on(async { place.store().await.map(drop) })?;
    let password = match args.no_password {
        true => None,
        false => Some(new_password(&name, args.password_stdin, " or --no-password")?),
    };
    let new = NewUser {
        password,
        groups: memberships(args.groups, args.admin_of),
        create_groups: true,
        labels: args.labels,
        attributes: attributes(args.attributes),
        must_change: args.must_change,
        expires: args.expires.and_then(|at| at.0),
        enabled: !args.disabled,
        ..NewUser::named(name.as_str())
    };
    let done = block_on(async { Ok(place.admin().await?.add_user(new).await?) })?;
    place.tell();
    tell(&done);
    println!("added `{name}`");
    Ok(())
}

fn set(args: SetArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let mut attributes = attributes(args.attributes);
    for name in args.unset {
        if attributes.insert(name.clone(), Vec::new()).is_some() {
            return Err(Failure::usage(format!("`{name}` is both set and unset: decide")));
        }
    }
    let change = UserChange {
        enabled: either(args.enable, args.disable),
        expires: args.expires.map(|at| at.0),
        must_change: either(args.must_change, args.no_must_change),
        driver: args.driver.map(Some).or_else(|| args.no_driver.then_some(None)),
        groups: memberships(args.groups, args.admin_of),
        create_groups: true,
        remove_groups: args.leave,
        labels: args.labels,
        remove_labels: args.unlabel,
        attributes,
    };
    if change == (UserChange { create_groups: true, ..UserChange::default() }) {
        let message = "nothing to change: say what, such as --disable or --group staff";
        return Err(Failure::usage(message));
    }
    let done = block_on(async { Ok(place.admin().await?.change_user(&args.name, change).await?) });
    // Also after an error: what came before it in the change is done.
    place.tell();
    tell(&done?);
    println!("changed `{}`", args.name);
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    block_on(async { Ok(place.admin().await?.remove_user(&args.name).await?) })?;
    place.tell();
    println!("removed `{}`", args.name);
    Ok(())
}

fn passwd(args: &PasswdArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    // Who is not there is told before anybody types a password for them.
    block_on(async { Ok(place.admin().await?.user(&args.name).await.map(drop)?) })?;
    let password = new_password(&args.name, args.password_stdin, "")?;
    let new = NewPassword { password, must_change: args.must_change };
    let done = block_on(async { Ok(place.admin().await?.set_password(&args.name, new).await?) })?;
    place.tell();
    tell(&done);
    println!("set the password of `{}`", args.name);
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let users = block_on(async {
        let admin = place.admin().await?;
        let mut listing = Listing { prefix: args.prefix.clone(), ..Listing::default() };
        let mut users = Vec::<UserLine>::new();
        loop {
            let page = admin.users(&listing).await?;
            let Some(last) = page.last() else { return Ok(users) };
            listing.after = Some(last.name.clone());
            users.extend(page);
        }
    })?;
    if args.json {
        return print_json(&users);
    }
    let mut table = table(&["name", "state", "expires", "password"]);
    for user in &users {
        table.add_row([
            shown(&user.name),
            state(user.enabled, user.expires).to_owned(),
            when(user.expires),
            if user.must_change { "must change" } else { "-" }.to_owned(),
        ]);
    }
    print(&table);
    Ok(())
}

fn show(args: &NameArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let user = block_on(async { Ok(place.admin().await?.user(&args.name).await?) })?;
    if args.json {
        return print_json(&user);
    }
    details(&user);
    Ok(())
}

/// A user, line by line.
pub(crate) fn details(user: &UserView) {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut lines = vec![
        ("name", shown(&user.name)),
        ("state", state(user.enabled, user.expires).to_owned()),
        ("expires", user.expires.map_or_else(|| "never".to_owned(), |at| at.to_string())),
        ("must change", yes(user.must_change)),
        ("groups", or_dash(Some(&groups(&user.groups)))),
        ("labels", or_dash(Some(&user.labels.join(", ")))),
    ];
    if let Some(driver) = &user.driver {
        lines.push(("driver", shown(driver)));
    }
    for (name, values) in &user.attributes {
        lines.extend(values.iter().map(|value| ("attribute", shown(&format!("{name}={value}")))));
    }
    if user.credentials.is_empty() {
        lines.push(("credential", "none: this user cannot prove anything here".to_owned()));
    }
    for credential in &user.credentials {
        let mut text = shown(&credential.kind);
        if let Some(scheme) = &credential.scheme {
            text.push_str(&format!(" {}", shown(scheme)));
        }
        if !credential.label.is_empty() {
            text.push_str(&format!(" `{}`", shown(&credential.label)));
        }
        if let Some(scope) = &credential.scope {
            text.push_str(&format!(", for {}", shown(scope)));
        }
        text.push_str(&format!(", added {}", credential.created));
        if let Some(used) = credential.last_used {
            text.push_str(&format!(", last used {used}"));
        }
        if let Some(at) = credential.expires {
            text.push_str(&format!(", expires {at}"));
        }
        lines.push(("credential", text));
    }
    for (name, value) in lines {
        println!("{name:<12} {value}");
    }
}

/// Whether the account lets anybody in, in a word.
pub(crate) fn state(enabled: bool, expires: Option<When>) -> &'static str {
    match (enabled, expires) {
        (false, _) => "disabled",
        (true, Some(at)) if at.0 <= now() => "expired",
        (true, _) => "enabled",
    }
}

fn tell(done: &Done) {
    for group in &done.created_groups {
        println!("created the group `{group}`");
    }
    match done.ended_sessions {
        0 => {}
        1 => println!("ended 1 session"),
        many => println!("ended {many} sessions"),
    }
}

fn either(yes: bool, no: bool) -> Option<bool> {
    (yes || no).then_some(yes)
}

fn memberships(members: Vec<String>, admins: Vec<String>) -> Vec<GroupView> {
    let members = members.into_iter().map(|name| GroupView { name, admin: false });
    members.chain(admins.into_iter().map(|name| GroupView { name, admin: true })).collect()
}

fn attributes(pairs: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut attributes = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in pairs {
        attributes.entry(name).or_default().push(value);
    }
    attributes
}

/// A password by standard input or from a person; never from the arguments, which every user can read.
fn new_password(user: &str, stdin: bool, or: &str) -> Result<Secret, Failure> {
    if stdin {
        return first_line();
    }
    let mut terminal = Terminal::open().map_err(|_| {
        Failure::usage(format!("no terminal to ask for the password at: give --password-stdin{or}"))
    })?;
    let mut question = Question::new_password();
    question.prompt = Text::verbatim(format!("New password for {user}"));
    let round = Round::of([question]);
    for _ in 0..3 {
        let mut answers = terminal.ask(&round)?;
        let Some(countersign::Answer::Value(password)) = answers.take("new-password") else {
            break;
        };
        match check_new_password(user, &password) {
            Ok(()) => return Ok(password),
            Err(error) => terminal.say(&error.to_string())?,
        }
    }
    Err(Failure::refused("no usable password was given; nothing was changed"))
}

pub(crate) fn first_line() -> Result<Secret, Failure> {
    if io::stdin().is_terminal() {
        let message = "standard input is a terminal, which would show the password: leave \
                       --password-stdin out to be asked";
        return Err(Failure::usage(message));
    }
    // One more than any password has, so that a longer one is refused and not cut.
    const MAX: usize = 4098;
    let mut line = Zeroizing::new(Vec::with_capacity(MAX));
    let read = io::stdin().lock().take(MAX as u64).read_until(b'\n', &mut line);
    read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    if line.is_empty() {
        return Err(Failure::usage("standard input is empty: it should hold the password"));
    }
    Ok(Secret::from(line.strip_suffix(b"\n").unwrap_or(&line)))
}
