//! `countersign user otp|recovery|app-password|factors`: second factors, on the store itself.

use std::io::IsTerminal as _;

use countersign::{Answer, Question, Round, Secret, Text};
use countersign_checkers::factors::{Moving, NewAppPassword, OtpSettings, PendingOtp};
use countersign_responders::terminal::Terminal;
use countersign_server::admin::{Admin, AdminErrorKind, FactorView, FactorsRemoved};

use crate::args::NameArgs;
use crate::args::factors::{
    AppPasswordArgs, AppPasswordCommand, FactorArgs, FactorsCommand, OtpArgs, RecoveryArgs,
    ResetArgs,
};
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::qr;
use crate::table::{or_dash, print, shown, table, when};

/// How often a code may be mistyped.
const TRIES: usize = 3;

pub(crate) fn otp(args: &OtpArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let moving = match args.hotp {
        true => Moving::Counter,
        false => Moving::Time { period: args.period },
    };
    let settings = OtpSettings { moving, digits: args.digits, algorithm: args.algorithm };
    let issuer = &place.config.accounts.issuer;
    let (admin, pending) = block_on(async {
        let admin = place.admin().await?;
        let pending = admin.begin_otp(&args.name, issuer, settings).await?;
        Ok((admin, pending))
    })?;
    if args.unconfirmed {
        show(&pending)?;
        block_on(async { Ok(admin.enrol_otp(&pending, &args.label, None).await?) })?;
    } else {
        // Before the secret is shown to a screen that nobody types at.
        let mut terminal = Terminal::open().map_err(|_| {
            Failure::usage("no terminal to ask for a first code at: give --unconfirmed")
        })?;
        show(&pending)?;
        confirm(&admin, &pending, &args.label, &mut terminal)?;
    }
    place.tell();
    println!("enrolled one-time codes for `{}`", args.name);
    Ok(())
}

/// The secret, for an app to read in.
fn show(pending: &PendingOtp) -> Result<(), Failure> {
    let (uri, secret) = (pending.uri(), pending.base32());
    let text = |secret: &Secret| secret.to_str().unwrap_or_default().to_owned();
    if std::io::stdout().is_terminal() {
        println!("{}", qr::drawn(&text(&uri))?);
    }
    println!("address  {}", text(&uri));
    println!("secret   {}", text(&secret));
    Ok(())
}

fn confirm(
    admin: &Admin,
    pending: &PendingOtp,
    label: &str,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let Some(code) = ask(terminal, "The code that it shows now")? else { break };
        let enrolled = block_on(async { Ok(admin.enrol_otp(pending, label, Some(&code)).await) })?;
        match enrolled {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == AdminErrorKind::Invalid => {
                terminal.say(&error.to_string())?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::refused("no right code was given; nothing was enrolled"))
}

fn ask(terminal: &mut Terminal, prompt: &str) -> Result<Option<Secret>, Failure> {
    let mut question = Question::otp();
    question.prompt = Text::verbatim(prompt.to_owned());
    question.limits.charset = countersign::Charset::Name;
    match terminal.ask(&Round::of([question]))?.take("otp") {
        Some(Answer::Value(code)) => Ok(Some(code)),
        _ => Ok(None),
    }
}

pub(crate) fn recovery(args: &RecoveryArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let codes = block_on(async { Ok(place.admin().await?.new_recovery_codes(&args.name).await?) })?;
    place.tell();
    for code in &codes {
        println!("{}", code.to_str().unwrap_or_default());
    }
    // Apart from the codes, which may go into a file or a printer.
    eprintln!("each works once in the place of a one-time code; older ones work no more");
    Ok(())
}

pub(crate) fn app_password(command: AppPasswordCommand) -> Result<(), Failure> {
    match command {
        AppPasswordCommand::Add(args) => add_app_password(args),
        AppPasswordCommand::List(args) => list(&args, Some("app-password")),
        AppPasswordCommand::Remove(args) => remove(&args, Some("app-password")),
    }
}

fn add_app_password(args: AppPasswordArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let AppPasswordArgs { name, services, label, expires, .. } = args;
    let expires = expires.and_then(|at| at.0).map(|at| at.0);
    let wanted = NewAppPassword { label, services, expires };
    let (secret, _) =
        block_on(async { Ok(place.admin().await?.add_app_password(&name, &wanted).await?) })?;
    place.tell();
    println!("{}", secret.to_str().unwrap_or_default());
    eprintln!("it is shown this once; it stands for the password and every other factor");
    Ok(())
}

pub(crate) fn factors(command: FactorsCommand) -> Result<(), Failure> {
    match command {
        FactorsCommand::List(args) => list(&args, None),
        FactorsCommand::Remove(args) => remove(&args, None),
        FactorsCommand::Reset(args) => reset(&args),
        FactorsCommand::Resync(args) => resync(&args),
    }
}

fn list(args: &NameArgs, kind: Option<&str>) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let mut factors = block_on(async { Ok(place.admin().await?.user_factors(&args.name).await?) })?;
    factors.retain(|factor| kind.is_none_or(|kind| factor.kind == kind));
    if args.json {
        let text = serde_json::to_string_pretty(&factors);
        println!("{}", text.map_err(|error| Failure::broken(error.to_string()))?);
        return Ok(());
    }
    let mut table = table(&["id", "kind", "label", "for", "added", "last used", "expires"]);
    for factor in &factors {
        table.add_row([
            factor.id.to_string(),
            kind_of(factor),
            or_dash(Some(&factor.label)),
            factor.services.as_ref().map_or_else(|| "-".to_owned(), |all| shown(&all.join(" "))),
            factor.created.to_string(),
            when(factor.last_used),
            when(factor.expires),
        ]);
    }
    print(&table);
    Ok(())
}

fn kind_of(factor: &FactorView) -> String {
    match factor.left {
        Some(left) => format!("{} ({left} left)", factor.kind),
        None => factor.kind.clone(),
    }
}

fn remove(args: &FactorArgs, kind: Option<&str>) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let removed = block_on(async {
        let admin = place.admin().await?;
        let factors = admin.user_factors(&args.name).await?;
        let found = factors.iter().find(|factor| factor.id == args.id);
        if let (Some(kind), Some(found)) = (kind, found)
            && found.kind != kind
        {
            let message =
                format!("{} is no {kind} but a factor of the kind {}", args.id, found.kind);
            return Err(Failure::usage(message));
        }
        Ok(admin.remove_factor(&args.name, args.id).await?)
    })?;
    place.tell();
    tell(removed);
    Ok(())
}

fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let kind = args.kind.as_deref();
    let removed =
        block_on(async { Ok(place.admin().await?.reset_factors(&args.name, kind).await?) })?;
    place.tell();
    tell(removed);
    Ok(())
}

fn resync(args: &FactorArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let mut terminal =
        Terminal::open().map_err(|_| Failure::usage("no terminal to ask for the two codes at"))?;
    let first = ask(&mut terminal, "The code that it shows now")?;
    let second = ask(&mut terminal, "The one after it")?;
    let (Some(first), Some(second)) = (first, second) else {
        return Err(Failure::refused("two codes are needed; nothing was changed"));
    };
    block_on(async {
        let admin = place.admin().await?;
        Ok(admin.resync_hotp(&args.name, args.id, [&first, &second]).await?)
    })?;
    place.tell();
    println!("found the counter again");
    Ok(())
}

fn tell(removed: FactorsRemoved) {
    match removed.removed {
        1 => println!("removed 1 factor"),
        many => println!("removed {many} factors"),
    }
    match removed.ended_sessions {
        0 => {}
        1 => println!("ended 1 session"),
        many => println!("ended {many} sessions"),
    }
}
