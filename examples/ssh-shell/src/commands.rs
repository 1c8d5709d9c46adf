//! The commands that everybody has who runs no program of the operator's. They touch nothing of the machine.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::console::{Console, Typed};
use crate::realm::{User, say};
use crate::shell::Streams;

const HELP: &str = "\
whoami          who you are
groups          the groups that you are in
labels          your labels
proofs          how you proved who you are
env             the variables of your key
echo TEXT       says it again
write NAME TEXT says it on somebody's terminals
exit [STATUS]   ends this
";

/// What a command comes to.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Said(String),
    Failed(String),
    Exit(u32),
}

/// Runs one command, or reads commands until the end. Gives the exit status.
pub async fn run(
    user: Arc<User>,
    command: Option<String>,
    terminal: bool,
    streams: Streams,
) -> u32 {
    let Streams { input, output, mut errors } = streams;
    let mut console = Console::new(input, output, terminal);
    let Some(command) = command else { return shell(&user, &mut console, &mut errors).await };
    match end_of(&user, &command) {
        End::Said(text) => u32::from(console.say(&text).await.is_err()),
        End::Failed(text) => {
            let _ = errors.write_all(text.as_bytes()).await;
            1
        }
        End::Exit(status) => status,
    }
}

async fn shell<I, O, E>(user: &User, console: &mut Console<I, O>, errors: &mut E) -> u32
where
    I: tokio::io::AsyncRead + Unpin,
    O: tokio::io::AsyncWrite + Unpin,
    E: tokio::io::AsyncWrite + Unpin,
{
    let prompt = format!("{}> ", user.who.subject);
    loop {
        let line = match console.line(&prompt).await {
            Ok(Typed::Line(line)) => line,
            Ok(Typed::Dropped) => continue,
            Ok(Typed::End) => return 0,
            Err(error) => {
                let _ = errors.write_all(format!("{error}\n").as_bytes()).await;
                return 1;
            }
        };
        let text = match end_of(user, &line) {
            End::Said(text) | End::Failed(text) => text,
            End::Exit(status) => return status,
        };
        if console.say(&text).await.is_err() {
            return 1;
        }
    }
}

fn end_of(user: &User, line: &str) -> End {
    let line = line.trim();
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let who = &user.who;
    let lines = |all: Vec<String>| End::Said(all.iter().map(|one| format!("{one}\n")).collect());
    match command {
        "" => End::Said(String::new()),
        "help" => End::Said(HELP.to_owned()),
        "whoami" => End::Said(format!("{}\n", who.subject)),
        "groups" => lines(who.groups.keys().cloned().collect()),
        "labels" => lines(who.labels.iter().cloned().collect()),
        "proofs" => lines(user.proofs.clone()),
        "env" => {
            let all = user.permitted.environment.iter();
            lines(all.map(|(name, value)| format!("{name}={value}")).collect())
        }
        "echo" => End::Said(format!("{rest}\n")),
        "write" => match rest.split_once(char::is_whitespace) {
            Some((name, text)) => {
                // Nothing that a terminal would obey.
                let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
                let heard = say(&user.minds, Some(name), &format!("{}: {text}", who.subject));
                match heard {
                    0 => End::Failed(format!("nobody heard it: {name} has no shell here\n")),
                    _ => End::Said(String::new()),
                }
            }
            None => End::Failed("write NAME TEXT\n".to_owned()),
        },
        "exit" => match rest.parse() {
            _ if rest.is_empty() => End::Exit(0),
            Ok(status @ 0..=255) => End::Exit(status),
            _ => End::Failed("exit [STATUS], of 0 to 255\n".to_owned()),
        },
        other => End::Failed(format!("{other}: there is no such command; `help` lists all\n")),
    }
}

#[cfg(test)]
mod tests {
    use countersign::{Identity, Minds};

    use super::*;
    use crate::permitted::Permitted;
    use crate::shell::Teller;

    fn user() -> User {
        let who = Identity::named("ada").in_group("staff", false).labelled("secret");
        let who = who.with("ssh-option", "environment=\"LANG=C\"");
        let permitted = Permitted::of(&who);
        User { permitted, who, proofs: vec!["publickey".into()], minds: Arc::default() }
    }

    #[test]
    fn what_each_says() {
        let user = user();
        let said = |line: &str| match end_of(&user, line) {
            End::Said(text) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(said(" whoami "), "ada\n");
        assert_eq!((said("groups"), said("labels")), ("staff\n".into(), "secret\n".into()));
        assert_eq!((said("proofs"), said("env")), ("publickey\n".into(), "LANG=C\n".into()));
        assert_eq!((said("echo  a  b"), said("")), ("a  b\n".into(), String::new()));
        assert_eq!(end_of(&user, "exit 3"), End::Exit(3));
        assert_eq!(end_of(&user, "exit"), End::Exit(0));
        for line in ["exit 256", "exit x", "ls", "write ada", "write bob hello"] {
            assert!(matches!(end_of(&user, line), End::Failed(_)), "{line}");
        }
    }

    #[test]
    fn who_has_a_shell_is_written_to() {
        let user = user();
        let teller = Teller::new();
        let mut heard = teller.listen();
        let _loan = Minds::lend(&user.minds, "bob", teller).unwrap();
        assert_eq!(end_of(&user, "write bob hello\u{7} there"), End::Said(String::new()));
        assert_eq!(heard.try_recv().as_deref(), Ok("ada: hello there"));
    }
}
