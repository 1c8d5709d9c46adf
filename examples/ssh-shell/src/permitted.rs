//! What a login by a key may do: the options of its line in `authorized_keys` (sshd(8)) and the extensions of its
//! certificate, as the checker of keys hands them on. Whether the key counts at all (`from`, `expiry-time`), the
//! checker has decided.

use countersign::Identity;

/// What somebody may do. Nothing is forwarded for anybody, so that only these are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// Whether they may have a terminal.
    pub terminal: bool,
    /// The one command that they may run, whatever they ask for.
    pub command: Option<String>,
    /// Variables for their programs.
    pub environment: Vec<(String, String)>,
}

/// Variables that would make a program another one.
const KEPT_BACK: [&str; 6] = ["PATH", "SHELL", "IFS", "ENV", "BASH_ENV", "SSH_ORIGINAL_COMMAND"];

impl Permitted {
    /// What somebody may do who was proven like this. Who was not proven by a key has no limits.
    pub fn of(who: &Identity) -> Self {
        let values = |name: &str| who.attributes.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut permitted = Self {
            terminal: true,
            command: who.attribute("ssh-command").map(str::to_owned),
            environment: Vec::new(),
        };
        // As sshd does: the later one counts.
        for option in values("ssh-option") {
            match option.split_once('=').unwrap_or((option, "")) {
                ("restrict" | "no-pty", _) => permitted.terminal = false,
                ("pty", _) => permitted.terminal = true,
                ("environment", value) => permitted.environment.extend(variable(value)),
                _ => {}
            }
        }
        // A certificate permits what it names; its line can take from that, and add nothing.
        if who.attribute("ssh-certificate").is_some() {
            permitted.terminal &= values("ssh-extension").iter().any(|name| name == "permit-pty");
        }
        permitted
    }
}

/// `"NAME=VALUE"`, quoted as in the file. Nothing for a variable that changes which program runs.
fn variable(quoted: &str) -> Option<(String, String)> {
    let quoted = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let (name, value) = quoted.split_once('=')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let harmless = !name.is_empty()
        && name.bytes().all(plain)
        && !name.starts_with("LD_")
        && !KEPT_BACK.contains(&name)
        && !value.contains('\0');
    harmless.then(|| (name.to_owned(), value.replace("\\\"", "\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Permitted {
        let who = Identity::named("ada");
        Permitted::of(&options.iter().fold(who, |who, option| who.with("ssh-option", *option)))
    }

    #[test]
    fn the_later_option_counts() {
        assert!(of(&[]).terminal && of(&["restrict", "pty"]).terminal);
        assert!(!of(&["pty", "restrict"]).terminal && !of(&["no-pty"]).terminal);
    }

    #[test]
    fn a_certificate_permits_what_it_names() {
        let who = Identity::named("ada").with("ssh-certificate", "laptop (serial 1)");
        assert!(!Permitted::of(&who).terminal);
        let who = who.with("ssh-extension", "permit-pty").with("ssh-command", "whoami");
        assert_eq!(Permitted::of(&who).command.as_deref(), Some("whoami"));
        assert!(Permitted::of(&who).terminal);
        assert!(!Permitted::of(&who.with("ssh-option", "restrict")).terminal);
    }

    #[test]
    fn variables_do_not_choose_programs() {
        let permitted = of(&[
            "environment=\"LANG=C.UTF-8\"",
            "environment=\"SAID=a \\\"word\\\" = b\"",
            "environment=\"LD_PRELOAD=/tmp/x.so\"",
            "environment=\"PATH=/tmp\"",
            "environment=\"A B=c\"",
            "environment=\"=c\"",
            "environment",
        ]);
        let expected = [("LANG", "C.UTF-8"), ("SAID", "a \"word\" = b")];
        assert_eq!(permitted.environment, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
