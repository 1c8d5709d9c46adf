//! What oned starts its driver manager with: one single argument with blanks in it.

use super::super::{DriverName, NameError};

/// The options of `one_auth_mad`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManagerArguments {
    /// `-n`, `--authn`: the drivers that may be asked. `None`: all that are installed.
    pub authn: Option<Vec<DriverName>>,
    /// `-z`, `--authz`: who authorizes instead of oned's own rules.
    pub authz: Option<DriverName>,
    /// `-t`, `--threads`: how many drivers may run at once. oned has no way to say it; a wrapper has.
    pub threads: Option<u16>,
    /// `-w`, `--timeout`: seconds that a driver may take. (`one_auth_mad` reads it and does nothing with it.)
    pub timeout: Option<u32>,
}

/// Why arguments are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// A word that is neither an option nor the value of one.
    #[error("unexpected argument {0:?}; known are --authn, --authz, --threads and --timeout")]
    Unknown(String),
    /// An option is there twice.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// An option without its value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A driver's name is none.
    #[error("{0}: driver {1:?}: {2}")]
    Driver(&'static str, String, NameError),
    /// A number is none, or is 0.
    #[error("{0} is a number from 1 to {1}, not {2:?}")]
    Number(&'static str, u32, String),
}

impl ManagerArguments {
    /// Reads the arguments after the program's name, each of which may hold several words.
    ///
    /// # Errors
    /// Says which word is wrong.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, ArgumentError> {
        let mut read = Self::default();
        let mut words = arguments.into_iter().flat_map(str::split_ascii_whitespace);
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            let option = match option {
                "-n" | "--authn" => "--authn",
                "-z" | "--authz" => "--authz",
                "-t" | "--threads" => "--threads",
                "-w" | "--timeout" => "--timeout",
                _ => return Err(ArgumentError::Unknown(word.to_owned())),
            };
            let value = value.or_else(|| words.next()).filter(|value| !value.starts_with('-'));
            let value = value.ok_or(ArgumentError::NoValue(option))?;
            let again = match option {
                "--authn" => {
                    // oned passes on what its configuration says, blanks after commas included.
                    let mut list = value.to_owned();
                    while list.ends_with(',') {
                        let Some(more) = words.next() else { break };
                        list.push_str(more);
                    }
                    let names = list.split(',').filter(|name| !name.is_empty());
                    let names = names.map(|name| driver(option, name)).collect::<Result<_, _>>()?;
                    read.authn.replace(names).is_some()
                }
                "--authz" => read.authz.replace(driver(option, value)?).is_some(),
                "--threads" => {
                    let threads = number(option, value, u16::MAX.into())?;
                    read.threads.replace(threads as u16).is_some()
                }
                _ => read.timeout.replace(number(option, value, 86_400)?).is_some(),
            };
            if again {
                return Err(ArgumentError::Twice(option));
            }
        }
        Ok(read)
    }

    /// The one argument that oned passes: `--authn a,b --authz z`, or the empty text.
    pub fn to_oned_argument(&self) -> String {
        let mut argument = String::new();
        if let Some(authn) = &self.authn {
            let names: Vec<_> = authn.iter().map(DriverName::as_str).collect();
            argument.push_str("--authn ");
            argument.push_str(&names.join(","));
        }
        if let Some(authz) = &self.authz {
            // With its blank even where nothing stands before it.
            argument.push_str(&format!(" --authz {authz}"));
        }
        argument
    }
}

fn driver(option: &'static str, name: &str) -> Result<DriverName, ArgumentError> {
    name.parse().map_err(|error| ArgumentError::Driver(option, name.to_owned(), error))
}

fn number(option: &'static str, value: &str, most: u32) -> Result<u32, ArgumentError> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| value.parse().ok()).flatten();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| ArgumentError::Number(option, most, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<ManagerArguments, ArgumentError> {
        ManagerArguments::parse(arguments.iter().copied())
    }

    fn names(list: &[&str]) -> Option<Vec<DriverName>> {
        Some(list.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn one_argument_with_blanks() {
        // M1
        let read = parse(&["--authn ssh,x509,ldap --authz z"]).unwrap();
        assert_eq!(read.authn, names(&["ssh", "x509", "ldap"]));
        assert_eq!(read.authz, Some("z".parse().unwrap()));
        assert_eq!(read.to_oned_argument(), "--authn ssh,x509,ldap --authz z");
        assert_eq!(parse(&[""]), Ok(ManagerArguments::default()));
        assert_eq!(ManagerArguments::default().to_oned_argument(), "");
        let authz = parse(&[" --authz z"]).unwrap();
        assert_eq!(authz.to_oned_argument(), " --authz z");
        let read = parse(&["-n", "ssh", "-t 5 -w 10"]).unwrap();
        assert_eq!((read.authn, read.threads, read.timeout), (names(&["ssh"]), Some(5), Some(10)));
        assert_eq!(parse(&["--authn=ssh, x509,"]).unwrap().authn, names(&["ssh", "x509"]));
    }

    #[test]
    fn errors_name_the_word() {
        for (arguments, text) in [
            (
                "--verbose",
                "unexpected argument \"--verbose\"; known are --authn, --authz, --threads and --timeout",
            ),
            (
                "ssh",
                "unexpected argument \"ssh\"; known are --authn, --authz, --threads and --timeout",
            ),
            ("--authn", "--authn needs a value"),
            ("--authn --authz z", "--authn needs a value"),
            ("--authn ssh,../x", "--authn: driver \"../x\": '.' is not allowed in a name"),
            ("-t 0", "--threads is a number from 1 to 65535, not \"0\""),
            ("-t +5", "--threads is a number from 1 to 65535, not \"+5\""),
            ("-w 1.5", "--timeout is a number from 1 to 86400, not \"1.5\""),
            ("-n a -n b", "--authn is there twice"),
        ] {
            assert_eq!(parse(&[arguments]).unwrap_err().to_string(), text, "{arguments}");
        }
    }
}
