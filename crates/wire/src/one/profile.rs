//! What changed between OpenNebula's versions, each change named by the first version that has it.

use std::fmt;
use std::str::FromStr;

/// A generation of OpenNebula, named by its first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Profile {
    /// Up to 5.4: drivers get user, stored password and secret as arguments.
    V5_4,
    /// 5.6 to 5.12: drivers read a document from standard input.
    V5_6,
    /// 6.0: two blanks after the verb, and an empty line after each message.
    V6_0,
    /// 6.2: all of a driver's error output is the reason of a failure.
    V6_2,
    /// 6.4 to 6.10 (from 6.3.80): the secret is base64 between oned and its driver manager.
    V6_4,
    /// 7.0 to 7.2: lines of a driver's error output with a severity go to the log.
    V7_0,
    /// From 7.3.80: nothing stored is an empty element for drivers, and no longer `-`.
    #[default]
    V7_3_80,
}

/// Where the reason of a failure comes from in a driver's error output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureText {
    /// What stands between `ERROR MESSAGE --8<------` and `ERROR MESSAGE ------>8--`.
    Block,
    /// All lines, joined by a blank.
    Joined,
    /// The lines without a severity, joined by nothing; the others are for the log.
    Unprefixed,
}

impl Profile {
    /// All, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V5_4, Self::V5_6, Self::V6_0, Self::V6_2, Self::V6_4, Self::V7_0, Self::V7_3_80];

    /// The first release with it. For [`Profile::V5_4`], the last.
    pub fn version(self) -> &'static str {
        match self {
            Self::V5_4 => "5.4",
            Self::V5_6 => "5.6",
            Self::V6_0 => "6.0",
            Self::V6_2 => "6.2",
            Self::V6_4 => "6.4",
            Self::V7_0 => "7.0",
            Self::V7_3_80 => "7.3.80",
        }
    }

    /// Whether drivers get arguments instead of a document. Every user of the machine can read arguments.
    pub fn passes_arguments(self) -> bool {
        self == Self::V5_4
    }

    /// What a driver is told where nothing is stored: `-`, since 7.3.80 nothing.
    pub fn nothing_stored(self) -> &'static str {
        if self >= Self::V7_3_80 { "" } else { "-" }
    }

    /// Whether two blanks follow the verb, one blank ends a login, and an empty line follows each message.
    pub fn has_empty_status(self) -> bool {
        self >= Self::V6_0
    }

    /// Whether the secret is base64 between oned and its driver manager.
    pub fn encodes_secrets(self) -> bool {
        self >= Self::V6_4
    }

    /// Where the reason of a failure comes from.
    pub fn failure_text(self) -> FailureText {
        match self {
            Self::V5_4 | Self::V5_6 | Self::V6_0 => FailureText::Block,
            Self::V6_2 | Self::V6_4 => FailureText::Joined,
            Self::V7_0 | Self::V7_3_80 => FailureText::Unprefixed,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version())
    }
}

/// Not a version of OpenNebula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a version of OpenNebula; write the one that `oned --version` shows, such as 6.10.0")]
pub struct UnknownVersion;

/// Any version, as `oned --version` shows it: `6.8`, `6.10.0`, `7.3.80`.
impl FromStr for Profile {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let mut parts = [0_u32; 4];
        let mut count = 0;
        for part in text.split('.') {
            let place = parts.get_mut(count).ok_or(UnknownVersion)?;
            if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit())
            {
                return Err(UnknownVersion);
            }
            *place = part.parse().map_err(|_| UnknownVersion)?;
            count += 1;
        }
        if count < 2 {
            return Err(UnknownVersion);
        }
        Ok(match parts {
            version if version < [5, 6, 0, 0] => Self::V5_4,
            version if version < [6, 0, 0, 0] => Self::V5_6,
            version if version < [6, 2, 0, 0] => Self::V6_0,
            version if version < [6, 3, 80, 0] => Self::V6_2,
            version if version < [7, 0, 0, 0] => Self::V6_4,
            version if version < [7, 3, 80, 0] => Self::V7_0,
            _ => Self::V7_3_80,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_a_profile() {
        for (version, profile) in [
            ("4.14", Profile::V5_4),
            ("5.4.0", Profile::V5_4),
            ("5.6", Profile::V5_6),
            ("5.12.0", Profile::V5_6),
            ("6.0.0.3", Profile::V6_0),
            ("6.2", Profile::V6_2),
            ("6.3.80", Profile::V6_4),
            ("6.10.0", Profile::V6_4),
            ("7.2.1", Profile::V7_0),
            ("7.3.80", Profile::V7_3_80),
            ("7.4", Profile::V7_3_80),
        ] {
            assert_eq!(version.parse(), Ok(profile), "{version}");
        }
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        for bad in ["", "7", "6.", ".6", "6.x", "v6.8", "6.8 ", "1.2.3.4.5", "6.-1", "6.99999"] {
            assert_eq!(bad.parse::<Profile>(), Err(UnknownVersion), "{bad}");
        }
    }

    #[test]
    fn the_version_matrix() {
        let row = |profile: Profile| {
            (
                profile.passes_arguments(),
                profile.nothing_stored(),
                profile.has_empty_status(),
                profile.encodes_secrets(),
                profile.failure_text(),
            )
        };
        assert_eq!(row(Profile::V5_4), (true, "-", false, false, FailureText::Block));
        assert_eq!(row(Profile::V5_6), (false, "-", false, false, FailureText::Block));
        assert_eq!(row(Profile::V6_0), (false, "-", true, false, FailureText::Block));
        assert_eq!(row(Profile::V6_2), (false, "-", true, false, FailureText::Joined));
        assert_eq!(row(Profile::V6_4), (false, "-", true, true, FailureText::Joined));
        assert_eq!(row(Profile::V7_0), (false, "-", true, true, FailureText::Unprefixed));
        assert_eq!(row(Profile::V7_3_80), (false, "", true, true, FailureText::Unprefixed));
    }
}
