//! `countersign token`: what a client of OpenNebula sends instead of a password. It goes to standard output;
//! secrets come from files and from the terminal, never from the arguments, which every user can read.

use countersign::Secret;
use countersign_wire::one::UserName;

#[cfg(feature = "one-cipher")]
use crate::args::token::CipherTokenArgs;
#[cfg(feature = "one-ssh")]
use crate::args::token::SshTokenArgs;
#[cfg(feature = "one-x509")]
use crate::args::token::X509TokenArgs;
use crate::args::token::{TokenCommand, UntilArgs};
use crate::failure::Failure;

pub(crate) fn run(command: TokenCommand) -> Result<(), Failure> {
    let token = match command {
        #[cfg(feature = "one-ssh")]
        TokenCommand::Ssh(args) => ssh(&args)?,
        #[cfg(feature = "one-x509")]
        TokenCommand::X509(args) => x509(&args)?,
        #[cfg(feature = "one-cipher")]
        TokenCommand::Cipher(args) => cipher(&args)?,
    };
    println!("{}", token.to_str().unwrap_or_default());
    Ok(())
}

#[cfg(feature = "one-ssh")]
fn ssh(args: &SshTokenArgs) -> Result<Secret, Failure> {
    let user = name(&args.user)?;
    let key = key::read(&args.key)?;
    if args.stored {
        let stored = key.stored().ok_or_else(|| Failure::broken("the key has no public part"))?;
        return Ok(Secret::from(stored));
    }
    countersign_checkers::one::ssh::token(&key, &user, moment(args.until)?)
        .map_err(|error| Failure::refused(error.to_string()))
}

#[cfg(feature = "one-x509")]
fn x509(args: &X509TokenArgs) -> Result<Secret, Failure> {
    use countersign_checkers::one::x509;

    let user = name(&args.user)?;
    let shown = args.cert.display();
    let chain = std::fs::read(&args.cert);
    let chain = chain.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    let wrong = |error: x509::CannotSign| Failure::usage(format!("{shown}: {error}"));
    if args.stored {
        return Ok(Secret::from(x509::stored(&chain).map_err(wrong)?));
    }
    x509::token(&key::read(&args.key)?, &chain, &user, moment(args.until)?).map_err(wrong)
}

#[cfg(feature = "one-cipher")]
fn cipher(args: &CipherTokenArgs) -> Result<Secret, Failure> {
    use std::path::Path;

    use countersign_checkers::kinds::secret_file;
    use countersign_checkers::one::cipher;
    use countersign_wire::one::Session;

    let target = name(&args.target)?;
    let wrong = |why: &str| Failure::usage(format!("{} {why}", args.auth.display()));
    let line = secret_file(Path::new(""), &args.auth).map_err(|why| wrong(&why))?;
    let first = line.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let server =
        Session::parse(first).map_err(|why| wrong(&format!("is no server:password: {why}")))?;
    if server.secret.is_empty() {
        return Err(wrong("has an empty password"));
    }
    let stored = cipher::stored(&server.secret);
    let make = if args.legacy { cipher::legacy_token } else { cipher::token };
    make(&stored, &server.user, &target, moment(args.until)?)
        .map_err(|error| Failure::broken(error.to_string()))
}

fn name(text: &str) -> Result<UserName, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("not a name in OpenNebula: {error}")))
}

/// When the token ends, in seconds since 1970.
fn moment(until: UntilArgs) -> Result<i64, Failure> {
    match until.expires.0 {
        Some(when) if when.0 > crate::moment::now() => Ok(when.0),
        Some(_) => Err(Failure::usage("--expires is over")),
        None => {
            Err(Failure::usage("a token ends: give --expires a point in time, or 12h or the like"))
        }
    }
}

#[cfg(any(feature = "one-ssh", feature = "one-x509"))]
mod key {
    use std::fs::File;
    use std::io::Read as _;
    use std::path::Path;

    use countersign::{Answer, Question, Round, Secret, Text};
    use countersign_checkers::one::signing::{KeyFileError, SigningKey};
    use countersign_responders::terminal::Terminal;
    use zeroize::Zeroizing;

    use crate::failure::Failure;

    /// No key is longer.
    const LONGEST: u64 = 64 * 1024;
    /// So often the passphrase is asked for.
    const TRIES: usize = 3;

    /// A private key in a file; its passphrase is asked for at the terminal.
    pub(super) fn read(path: &Path) -> Result<SigningKey, Failure> {
        let shown = path.display();
        let cannot = |error| Failure::usage(format!("cannot read {shown}: {error}"));
        // With room for all of it: growing would leave a copy behind, unwiped.
        let mut pem = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
        File::open(path).map_err(cannot)?.take(LONGEST).read_to_end(&mut pem).map_err(cannot)?;
        let failed = |error: KeyFileError| Failure::usage(format!("{shown}: {error}"));
        match SigningKey::read(&pem, None) {
            Err(KeyFileError::NeedsPassphrase) => {}
            read => return read.map_err(failed),
        }
        let mut terminal = Terminal::open().map_err(|_| {
            Failure::usage(format!(
                "{shown} has a passphrase, and no terminal is there to ask for it at"
            ))
        })?;
        let mut question = Question::password();
        question.prompt = Text::verbatim(format!("Passphrase of {shown}"));
        let round = Round::of([question]);
        for _ in 0..TRIES {
            let Some(passphrase) = ask(&mut terminal, &round)? else { break };
            match SigningKey::read(&pem, Some(&passphrase)) {
                Err(error @ KeyFileError::WrongPassphrase) => terminal.say(&error.to_string())?,
                read => return read.map_err(failed),
            }
        }
        Err(Failure::refused(format!("{shown} was not opened")))
    }

    fn ask(terminal: &mut Terminal, round: &Round) -> Result<Option<Secret>, Failure> {
        Ok(match terminal.ask(round)?.take("password") {
            Some(Answer::Value(passphrase)) => Some(passphrase),
            _ => None,
        })
    }
}
