//! A line of `authorized_keys` (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Options that say what a session may do. They are the server's to obey, and handed on.
const HANDED_ON: [&str; 22] = [
    "agent-forwarding",
    "environment",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-user-rc",
    "no-x11-forwarding",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "pty",
    "restrict",
    "tunnel",
    "user-rc",
    "x11-forwarding",
    "command",
    "cert-authority",
    "principals",
    "from",
    "expiry-time",
    "no-touch-required",
    "verify-required",
];

/// A key with what it was listed with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) blob: Vec<u8>,
    pub(super) options: Vec<Given>,
}

/// `NAME` or `NAME="VALUE"`. Names are compared without regard to case, and kept in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

impl Listed {
    /// Reads a line. `None`: there is nothing on it.
    ///
    /// # Errors
    ///
    /// What is wrong with it. A line with an option that nothing here knows lets nobody in: it may be a restriction.
    pub(super) fn read(line: &str) -> Result<Option<Self>, &'static str> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if let Some(blob) = key(line) {
            return Ok(Some(Self { blob, options: Vec::new() }));
        }
        let (options, rest) = options(line)?;
        let blob = key(rest.trim_start()).ok_or("no key")?;
        for (at, option) in options.iter().enumerate() {
            if !HANDED_ON.contains(&option.name.as_str()) {
                return Err("an option that is not known");
            }
            let once = ["command", "from", "principals", "expiry-time"];
            let takes = once.contains(&option.name.as_str());
            if takes && option.value.is_none() {
                return Err("an option without its value");
            }
            if takes && options[..at].iter().any(|other| other.name == option.name) {
                return Err("an option that is there twice");
            }
        }
        Ok(Some(Self { blob, options }))
    }

    /// The value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.name == name)?.value.as_deref()
    }

    /// Whether an option is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.name == name)
    }
}

/// `TYPE BASE64 [COMMENT]`, if it is one whose type is that of the key.
fn key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let (kind, encoded) = (words.next()?, words.next()?);
    let blob = STANDARD.decode(encoded).ok()?;
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (rest.get(..length)? == kind.as_bytes()).then_some(blob)
}

/// Options up to the first blank outside of quotes, and what follows.
fn options(line: &str) -> Result<(Vec<Given>, &str), &'static str> {
    let mut options = Vec::new();
    let mut rest = line;
    loop {
        let end = rest.find(['=', ',', ' ', '\t']).ok_or("no key")?;
        let name = rest[..end].to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("an option without a name, or no key");
        }
        rest = &rest[end..];
        let value = match rest.strip_prefix('=') {
            None => None,
            Some(after) => {
                let (value, after) = quoted(after)?;
                rest = after;
                Some(value)
            }
        };
        options.push(Given { name, value });
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with([' ', '\t']) => return Ok((options, rest)),
            None => return Err("something between an option and a comma or blank"),
        }
    }
}

/// What stands in quotes: `\"` is a quote, and every other backslash is one.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut rest = text.strip_prefix('"').ok_or("a value without quotes")?;
    let mut value = String::new();
    loop {
        let at = rest.find(['"', '\\']).ok_or("a quote without its end")?;
        value.push_str(&rest[..at]);
        match &rest[at..] {
            escaped if escaped.starts_with("\\\"") => {
                value.push('"');
                rest = &escaped[2..];
            }
            backslash if backslash.starts_with('\\') => {
                value.push('\\');
                rest = &backslash[1..];
            }
            end => return Ok((value, &end[1..])),
        }
    }
}

/// Whether an address is in the list of `from="…"`: addresses, networks, and patterns of addresses with `*` and `?`.
/// No name is looked up: one matches nothing, and one that is not to match refuses everybody.
pub(super) fn comes_from(list: &str, remote: Option<IpAddr>) -> bool {
    let Some(remote) = remote else { return false };
    let remote = remote.to_canonical();
    let shown = remote.to_string();
    let mut found = false;
    for pattern in list.split(',').map(str::trim) {
        let (not, pattern) = match pattern.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, pattern),
        };
        let network = pattern.parse::<IpNet>().ok();
        let is = match network {
            Some(network) => network.contains(&remote),
            None => alike(pattern.as_bytes(), shown.as_bytes()),
        };
        let of_addresses = |b: u8| b.is_ascii_hexdigit() || b":.*?".contains(&b);
        if not && (is || network.is_none() && !pattern.bytes().all(of_addresses)) {
            return false;
        }
        found |= is;
    }
    found
}

/// Whether an address is in the networks of a certificate's `source-address`. What is no network refuses everybody.
pub(super) fn is_in(networks: &str, remote: Option<IpAddr>) -> bool {
    let Some(remote) = remote.map(|remote| remote.to_canonical()) else { return false };
    let mut found = false;
    for network in networks.split(',').map(str::trim) {
        match (network.parse::<IpNet>(), network.parse::<IpAddr>()) {
            (Ok(network), _) => found |= network.contains(&remote),
            (_, Ok(address)) => found |= address == remote,
            _ => return false,
        }
    }
    found
}

/// `*` is any text, `?` any letter.
fn alike(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut begun, mut star) = (0, 0, None);
    let mut i = 0;
    while i < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                (star, begun) = (Some(at), i);
                at += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[i]) => {
                at += 1;
                i += 1;
            }
            _ => match star {
                Some(star) => {
                    begun += 1;
                    (at, i) = (star + 1, begun);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// `YYYYMMDD[HHMM[SS]]`, with `Z` in UTC and else in the machine's zone: seconds since 1970.
pub(super) fn expiry(text: &str) -> Option<i64> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |d| d.parse().ok());
    let year = digits[..4].parse().ok()?;
    let time = DateTime::new(
        year,
        number(4, 6)?,
        number(6, 8)?,
        number(8, 10)?,
        number(10, 12)?,
        number(12, 14)?,
        0,
    );
    Some(time.ok()?.to_zoned(zone).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

    #[test]
    fn options_are_split_at_commas_outside_of_quotes() {
        let line =
            format!(r#"Restrict,command="echo \"a, b\" \n",from="10.0.0.0/8" {KEY} ada@host x"#);
        let listed = Listed::read(&line).unwrap().unwrap();
        assert_eq!(listed.value("command"), Some(r#"echo "a, b" \n"#));
        assert_eq!(listed.value("from"), Some("10.0.0.0/8"));
        assert!(listed.has("restrict") && !listed.has("pty"));
        let plain = Listed::read(KEY).unwrap().unwrap();
        assert_eq!((plain.blob, plain.options), (listed.blob, Vec::new()));
        assert!(Listed::read(" # x").unwrap().is_none() && Listed::read("").unwrap().is_none());
    }

    #[test]
    fn a_line_that_is_not_understood_lists_nobody() {
        for options in [
            "unheard-of",
            "command",
            "command=x",
            "command=\"x",
            "command=\"x\"y",
            "from=\"a\",from=\"b\"",
            ",restrict",
            "restrict,",
            "=\"x\"",
            "ssh-rsa",
        ] {
            assert!(Listed::read(&format!("{options} {KEY}")).is_err(), "{options}");
        }
        for line in
            ["restrict", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA"]
        {
            assert!(Listed::read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn where_somebody_comes_from() {
        let from = |list: &str, remote: &str| comes_from(list, Some(remote.parse().unwrap()));
        assert!(from("10.0.0.0/8", "10.1.2.3") && from("10.1.*", "10.1.2.3"));
        assert!(from("*,!10.0.0.1", "10.0.0.2") && !from("*,!10.0.0.1", "10.0.0.1"));
        assert!(from("2001:db8::/32", "2001:db8::1") && from("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!from("10.0.0.?", "10.0.0.12") && !from("host.example.com", "10.0.0.1"));
        // A name that must not be: nobody looks it up, so nobody can say.
        assert!(!from("*,!evil.example.com", "10.0.0.1") && !comes_from("*", None));
        assert!(is_in("10.0.0.0/8,192.0.2.1", Some("192.0.2.1".parse().unwrap())));
        assert!(
            !is_in("10.0.0.0/8,x", Some("10.0.0.1".parse().unwrap())) && !is_in("0.0.0.0/0", None)
        );
    }

    #[test]
    fn when_a_key_ends() {
        assert_eq!(expiry("19700102Z"), Some(86400));
        assert_eq!(expiry("197001010001Z"), Some(60));
        assert_eq!(expiry("19700101000102Z"), Some(62));
        assert!(expiry("20300101").is_some());
        for bad in ["", "1970", "19701301Z", "1970010100Z", "tomorrow", "19700101+0"] {
            assert_eq!(expiry(bad), None, "{bad}");
        }
    }
}
