//! One line of another system's file, as the account that it becomes.

use std::collections::BTreeMap;

use countersign::Secret;
use countersign_checkers::hash::{Accept, Hash};
use countersign_store::{CredentialType, NewAccount, NewCredential};

/// A user, and what could not be taken along.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) account: NewAccount,
    /// The number of the user's own group.
    pub(crate) gid: Option<u32>,
    /// The user's number.
    pub(crate) uid: Option<u32>,
    pub(crate) notes: Vec<String>,
}

/// What a line of shadow(5) says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shadow {
    hash: Secret,
    must_change: bool,
    /// Seconds since 1970.
    expires: Option<i64>,
}

const DAY: i64 = 86_400;

impl Entry {
    fn named(name: &str) -> Result<Self, String> {
        countersign_store::check_user_name(name).map_err(|error| error.to_string())?;
        let account = NewAccount::new(name);
        Ok(Self { account, gid: None, uid: None, notes: Vec::new() })
    }

    /// `name:hash`, as Apache's htpasswd writes it.
    pub(crate) fn htpasswd(line: &str, accept: &Accept) -> Result<Self, String> {
        let (name, hash) = line.split_once(':').ok_or("no colon after a name")?;
        let mut entry = Self::named(name)?;
        // What follows a second colon is a comment of somebody's.
        entry.password(hash.split(':').next().unwrap_or_default(), accept);
        Ok(entry)
    }

    /// A line of shadow(5), alone or for the line of the same name in passwd(5).
    pub(crate) fn shadow(line: &str) -> Result<(String, Shadow), String> {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let hash = Secret::from(fields.next().ok_or("no colon after a name")?);
        let fields: Vec<_> = fields.collect();
        let number = |index: usize| fields.get(index).and_then(|days| days.parse::<i64>().ok());
        // passwd(1) --expire says that the password was last changed on the first of all days.
        let must_change = number(0) == Some(0);
        let expires = number(5).filter(|days| *days >= 0).map(|days| days.saturating_mul(DAY));
        Ok((name.to_owned(), Shadow { hash, must_change, expires }))
    }

    /// The account of a line of shadow(5).
    pub(crate) fn of_shadow(name: &str, shadow: &Shadow, accept: &Accept) -> Result<Self, String> {
        let mut entry = Self::named(name)?;
        entry.take_shadow(shadow, accept);
        Ok(entry)
    }

    /// A line of passwd(5); `shadow` has the password of an `x`.
    pub(crate) fn passwd(
        line: &str,
        shadow: impl FnOnce(&str) -> Option<Shadow>,
        accept: &Accept,
    ) -> Result<Self, String> {
        let fields: Vec<_> = line.split(':').collect();
        let [name, password, uid, gid, gecos, home, shell] = fields[..] else {
            return Err(format!("{} fields, where passwd(5) has 7", fields.len()));
        };
        let mut entry = Self::named(name)?;
        entry.place(uid, gid, gecos, home, shell)?;
        match (password, shadow(name)) {
            ("x", Some(shadow)) => entry.take_shadow(&shadow, accept),
            ("x", None) => entry.note("no password: its line in the shadow file is missing"),
            (password, _) => entry.password(password, accept),
        }
        Ok(entry)
    }

    /// A line of a Dovecot passwd-file: as passwd(5), with fields that may be missing and more behind.
    pub(crate) fn dovecot(line: &str, accept: &Accept) -> Result<Self, String> {
        let mut fields = line.splitn(8, ':');
        let mut next = || fields.next().unwrap_or_default();
        let (name, password) = (next(), next());
        let mut entry = Self::named(name)?;
        let (uid, gid, gecos, home, shell) = (next(), next(), next(), next(), next());
        entry.place(uid, gid, gecos, home, shell)?;
        let mut nopassword = false;
        for extra in next().split_ascii_whitespace() {
            let (field, value) = extra.split_once('=').unwrap_or((extra, ""));
            match field.strip_prefix("userdb_") {
                Some(field) => entry.attribute(field, value),
                None if field == "nopassword" => nopassword = true,
                None if field == "allow_nets" => {
                    entry.attribute(field, value);
                    entry.note("`allow_nets` is kept as an attribute; nothing here goes by it");
                }
                None => entry.note(&format!("the field `{field}` has no meaning here")),
            }
        }
        if nopassword {
            entry.note("`nopassword`: any password would do; imported without one");
        } else {
            entry.password(password, accept);
        }
        Ok(entry)
    }

    fn place(
        &mut self,
        uid: &str,
        gid: &str,
        gecos: &str,
        home: &str,
        shell: &str,
    ) -> Result<(), String> {
        let number = |what: &str, text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("the {what} is no number")),
        };
        (self.uid, self.gid) = (number("user id", uid)?, number("group id", gid)?);
        for (name, value) in
            [("uid", uid), ("gid", gid), ("gecos", gecos), ("home", home), ("shell", shell)]
        {
            self.attribute(name, value);
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.account.attributes.insert(name.to_owned(), vec![value.to_owned()]);
        }
    }

    fn take_shadow(&mut self, shadow: &Shadow, accept: &Accept) {
        self.account.must_change = shadow.must_change;
        self.account.expires = shadow.expires;
        match shadow.hash.to_str() {
            Some(hash) => self.password(hash, accept),
            None => self.note("no password: it is no text"),
        }
    }

    /// A hash as it is. A locked one disables the account, and stays for when it is enabled again.
    fn password(&mut self, text: &str, accept: &Accept) {
        let hash = text.trim_start_matches('!');
        let locked = hash.len() < text.len() || hash.starts_with('*');
        if locked {
            self.account.enabled = false;
            self.note("locked: imported disabled");
        }
        if hash.is_empty() && !locked {
            return self.note("no password: nobody can log in until one is set");
        }
        if hash.is_empty() || hash.starts_with('*') {
            return;
        }
        match Hash::parse(hash, accept) {
            Ok(_) => {
                let new = NewCredential::new(CredentialType::Password, Secret::from(hash));
                self.account.credentials.push(new);
            }
            Err(error) => self.note(&format!("no password: {error}")),
        }
    }

    fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }
}

/// Groups of group(5): names by number, and the groups of which somebody is a further member.
#[derive(Debug, Default)]
pub(crate) struct GroupFile {
    pub(crate) names: BTreeMap<u32, String>,
    pub(crate) further: BTreeMap<String, Vec<String>>,
}

impl GroupFile {
    /// Reads `name:x:gid:member,…`; lines that are none are left out, with their numbers.
    pub(crate) fn read(text: &str) -> (Self, Vec<(usize, String)>) {
        let (mut file, mut wrong) = (Self::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else {
                wrong.push((index + 1, "not the four fields of group(5)".to_owned()));
                continue;
            };
            let checked = countersign_store::check_group_name(name).map_err(|e| e.to_string());
            let gid = gid.parse().map_err(|_| "the group id is no number".to_owned());
            match checked.and(gid) {
                Ok(gid) => {
                    file.names.entry(gid).or_insert_with(|| name.to_owned());
                    for member in members.split(',').filter(|member| !member.is_empty()) {
                        let groups = file.further.entry(member.to_owned()).or_default();
                        groups.push(name.to_owned());
                    }
                }
                Err(why) => wrong.push((index + 1, why)),
            }
        }
        (file, wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    fn accept() -> Accept {
        Accept::default()
    }

    fn attributes(entry: &Entry) -> Vec<(&str, &str)> {
        let all = entry.account.attributes.iter();
        all.map(|(name, values)| (name.as_str(), values[0].as_str())).collect()
    }

    #[test]
    fn htpasswd_lines() {
        let entry = Entry::htpasswd(&format!("ann:{SIX}"), &accept()).unwrap();
        assert_eq!(entry.account.credentials[0].data, Secret::from(SIX));
        assert!(entry.notes.is_empty() && entry.account.enabled);
        let odd = Entry::htpasswd("ann:rot13", &accept()).unwrap();
        assert!(odd.account.credentials.is_empty());
        assert!(odd.notes[0].starts_with("no password") && !odd.notes[0].contains("rot13"));
        for line in ["ann", ":x", " ann:x"] {
            assert!(Entry::htpasswd(line, &accept()).is_err(), "{line}");
        }
    }

    #[test]
    fn passwd_and_shadow_lines() {
        let (name, shadow) = Entry::shadow(&format!("ann:{SIX}:0:0:99999:7::20000:")).unwrap();
        assert_eq!(name, "ann");
        let line = "ann:x:1000:100:Ann A,,,:/home/ann:/bin/bash";
        let entry = Entry::passwd(line, |_| Some(shadow.clone()), &accept()).unwrap();
        assert_eq!((entry.uid, entry.gid), (Some(1000), Some(100)));
        assert_eq!((entry.account.must_change, entry.account.expires), (true, Some(20_000 * DAY)));
        assert_eq!(entry.account.credentials.len(), 1);
        let expected = [
            ("gecos", "Ann A,,,"),
            ("gid", "100"),
            ("home", "/home/ann"),
            ("shell", "/bin/bash"),
            ("uid", "1000"),
        ];
        assert_eq!(attributes(&entry), expected);
        let none = Entry::passwd(line, |_| None, &accept()).unwrap();
        assert!(none.notes[0].contains("shadow"));
        assert!(Entry::passwd("ann:x:1000", |_| None, &accept()).is_err());
        assert!(Entry::passwd("ann:x:y:1:::", |_| None, &accept()).is_err());
    }

    #[test]
    fn locked_is_disabled_and_keeps_its_hash() {
        for (text, kept) in [("!", 0), ("*", 0), ("!!", 0), ("!*", 0), (&*format!("!{SIX}"), 1)] {
            let entry = Entry::htpasswd(&format!("ann:{text}"), &accept()).unwrap();
            assert!(!entry.account.enabled, "{text}");
            assert_eq!(entry.account.credentials.len(), kept, "{text}");
        }
        let open = Entry::htpasswd("ann:", &accept()).unwrap();
        assert!(open.account.enabled && open.account.credentials.is_empty());
        assert!(open.notes[0].contains("nobody can log in"));
    }

    #[test]
    fn dovecot_lines() {
        let line = format!(
            "ann@x:{{SHA512-CRYPT}}{SIX}:5000:5000::/srv/ann::userdb_mail=maildir:~/m \
             userdb_quota_rule=*:storage=1G allow_nets=192.0.2.0/24 proxy=y"
        );
        let entry = Entry::dovecot(&line, &accept()).unwrap();
        let expected = [
            ("allow_nets", "192.0.2.0/24"),
            ("gid", "5000"),
            ("home", "/srv/ann"),
            ("mail", "maildir:~/m"),
            ("quota_rule", "*:storage=1G"),
            ("uid", "5000"),
        ];
        assert_eq!(attributes(&entry), expected);
        assert_eq!(entry.account.credentials.len(), 1);
        assert_eq!(entry.notes.len(), 2, "{:?}", entry.notes);
        let open = Entry::dovecot("ann:::::::nopassword", &accept()).unwrap();
        assert!(open.account.credentials.is_empty() && open.notes[0].contains("nopassword"));
        assert!(Entry::dovecot("ann", &accept()).unwrap().notes[0].contains("no password"));
    }

    #[test]
    fn group_files() {
        let (file, wrong) =
            GroupFile::read("# x\nstaff:x:100:ann,ben\nops:x:101:ann\nbad\nb:x:y:\n");
        assert_eq!(file.names[&100], "staff");
        assert_eq!(file.further["ann"], ["staff", "ops"]);
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 5]);
    }
}
