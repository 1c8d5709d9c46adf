//! What `--help-auth` and `--help-auth-type` print.

use std::fmt::Write as _;

use super::{AuthError, Form, Kind, Kinds, Takes};

impl Kinds {
    /// The table of types, as `--help-auth` prints it: type, argument, what it proves. What a program that
    /// takes these mechanisms cannot use is below, with the reason.
    pub fn help(&self, takes: &Takes) -> String {
        let mut text = String::from(
            "Usage: --auth TYPE[:ARGUMENT]\n\
             Several are asked in the order given. For more about one: --help-auth-type TYPE\n\n",
        );
        let (usable, others): (Vec<_>, Vec<_>) =
            self.kinds().partition(|kind| kind.usable(takes).is_ok());
        let head = ["TYPE".to_owned(), "ARGUMENT".to_owned(), "PROVES".to_owned()];
        let rows = usable.iter().map(|kind| {
            let danger = if kind.danger().is_some() { " (dangerous)" } else { "" };
            [kind.name().to_owned(), argument(kind), format!("{}{danger}", kind.summary())]
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let (first, second) = (width(0), width(1));
        for [name, argument, proves] in &rows {
            line(&mut text, format_args!("  {name:first$}  {argument:second$}  {proves}"));
        }
        if !others.is_empty() {
            text.push_str("\nNot usable here:\n");
        }
        for kind in others {
            let why = kind.usable(takes).err().unwrap_or_default();
            line(&mut text, format_args!("  {:first$}  {why}", kind.name()));
        }
        text
    }

    /// All that there is to say about a type, as `--help-auth-type` prints it to a program that takes these
    /// mechanisms.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unknown`].
    pub fn help_on(&self, name: &str, takes: &Takes) -> Result<String, AuthError> {
        let kind = self.known(name)?;
        let mut text = match argument(kind).as_str() {
            "" => format!("--auth {}\n", kind.name()),
            argument if kind.form() == Form::None => format!("--auth {}{argument}\n", kind.name()),
            argument if argument.starts_with('[') => {
                format!("--auth {}[:{}\n", kind.name(), &argument[1..])
            }
            argument => format!("--auth {}:{argument}\n", kind.name()),
        };
        line(&mut text, format_args!("\n{}", capitalised(kind.summary())));
        if !kind.help().is_empty() {
            line(&mut text, format_args!("\n{}", kind.help()));
        }
        if !kind.example().is_empty() {
            line(&mut text, format_args!("\nExample: --auth '{}'", kind.example()));
        }
        line(&mut text, format_args!("\nProves who somebody is by: {}", kind.proves().join(", ")));
        if let Some(danger) = kind.danger() {
            line(&mut text, format_args!("\nDANGEROUS: {danger}."));
        }
        if let Err(why) = kind.usable(takes) {
            line(&mut text, format_args!("\nIt cannot be used here: {why}."));
        }
        Ok(text)
    }
}

/// What stands after the colon, in brackets where it may be left out.
fn argument(kind: &Kind) -> String {
    match kind.form() {
        Form::None => String::new(),
        Form::Optional(form) => format!("[{form}]"),
        Form::Required(form) => form.to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).chain(['.']).collect()
    })
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    let at = text.len();
    // Writing to a string cannot fail.
    let _ = write!(text, "{what}");
    text.truncate(text.trim_end().len().max(at));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_can_be_used_and_why_not() {
        let kinds = Kinds::built_in();
        let all = kinds.help(&Takes::everything());
        for kind in kinds.kinds() {
            assert!(all.contains(&format!("  {}", kind.name())), "{all}");
        }
        assert!(all.contains("(dangerous)"));
        let none = kinds.help(&Takes::only(["smoke-signals"]));
        let (table, others) = none.split_once("Not usable here:").unwrap();
        assert!(!table.contains("memory"), "{none}");
        let memory = others.lines().find(|line| line.starts_with("  memory")).unwrap();
        let said =
            ["it proves who somebody is by password", "this program takes only smoke-signals"];
        assert!(said.iter().all(|words| memory.contains(words)), "{none}");
    }

    #[test]
    fn one_type_in_full() {
        let kinds = Kinds::built_in();
        let memory = kinds.help_on("memory", &Takes::passwords()).unwrap();
        assert!(memory.starts_with("--auth memory:NAME:PASSWORD:…\n"), "{memory}");
        assert!(memory.contains("DANGEROUS") && !memory.contains("cannot be used"), "{memory}");
        let memory = kinds.help_on("memory", &Takes::only(["otp"])).unwrap();
        assert!(memory.contains("It cannot be used here: "), "{memory}");
        let accounts = kinds.help_on("accounts", &Takes::everything()).unwrap();
        assert!(accounts.starts_with("--auth accounts[:STORE]\n"), "{accounts}");
        let error = kinds.help_on("fiel", &Takes::everything()).unwrap_err();
        assert_eq!(error.to_string(), "there is no type `fiel`; did you mean `file`?");
    }
}
