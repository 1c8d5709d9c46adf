//! What a call wants to do: one operation on one object.

use std::fmt;
use std::str::FromStr;

/// One request of AUTHORIZE: `OBJECT:target:OPERATION:owner:permitted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    /// The kind of the object in capitals: `VM`, `IMAGE`, `VNTEMPLATE`, …
    pub object: Box<str>,
    /// Which.
    pub target: Target,
    /// What for.
    pub operation: Operation,
    /// The number of the user who owns it, or -1.
    pub owner: i32,
    /// What oned's own rules say about this one.
    pub permitted: bool,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `-`: none in particular.
    None,
    /// An object's number, or -1.
    Id(i32),
    /// A template in XML, in base64: of what is to be made.
    Template(Box<str>),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// See it, take it for something.
    Use,
    /// Change it.
    Manage,
    /// Change who owns it and the like.
    Admin,
    /// Make one.
    Create,
}

/// Five fields, each as oned writes it and in no other spelling.
impl FromStr for AccessRequest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.split(':');
        let mut field = || fields.next().filter(|field| !field.is_empty()).ok_or(());
        let object = field()?;
        if !object.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            return Err(());
        }
        let target = match field()? {
            "-" => Target::None,
            target => match number(target) {
                Ok(id) => Target::Id(id),
                Err(()) if target.bytes().all(base64) => Target::Template(target.into()),
                Err(()) => return Err(()),
            },
        };
        let operation = match field()? {
            "USE" => Operation::Use,
            "MANAGE" => Operation::Manage,
            "ADMIN" => Operation::Admin,
            "CREATE" => Operation::Create,
            _ => return Err(()),
        };
        let owner = number(field()?)?;
        let permitted = verdict(field()?)?;
        match fields.next() {
            None => Ok(Self { object: object.into(), target, operation, owner, permitted }),
            Some(_) => Err(()),
        }
    }
}

impl fmt::Display for AccessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.object)?;
        match &self.target {
            Target::None => f.write_str("-")?,
            Target::Id(id) => id.fmt(f)?,
            Target::Template(template) => f.write_str(template)?,
        }
        let operation = match self.operation {
            Operation::Use => "USE",
            Operation::Manage => "MANAGE",
            Operation::Admin => "ADMIN",
            Operation::Create => "CREATE",
        };
        write!(f, ":{operation}:{}:{}", self.owner, u8::from(self.permitted))
    }
}

/// `0` or `1`.
pub(super) fn verdict(text: &str) -> Result<bool, ()> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(()),
    }
}

/// -1, or a number in its one spelling.
pub(super) fn number(text: &str) -> Result<i32, ()> {
    if text == "-1" {
        return Ok(-1);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text != "0" && text.starts_with('0')) {
        return Err(());
    }
    text.parse().map_err(|_| ())
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        // M7
        for text in [
            "VM:10:MANAGE:3:0",
            "TEMPLATE:-:USE:-1:1",
            "VNTEMPLATE:-1:ADMIN:0:1",
            "IMAGE:PElNQUdFLz4=:CREATE:2:0",
        ] {
            assert_eq!(text.parse::<AccessRequest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn one_spelling_each() {
        for text in [
            "",
            "VM",
            "VM:10:MANAGE:3",
            "VM:10:MANAGE:3:0:",
            "VM:10:MANAGE:3:2",
            "VM:10:manage:3:0",
            "vm:10:USE:3:0",
            "VM::USE:3:0",
            "VM:1 0:USE:3:0",
            "VM:10:USE:+3:0",
            "VM:10:USE:03:0",
            "VM:10:USE:-2:0",
            "VM:<x>:USE:3:0",
            ":10:USE:3:0",
        ] {
            assert_eq!(text.parse::<AccessRequest>(), Err(()), "{text}");
        }
    }
}
