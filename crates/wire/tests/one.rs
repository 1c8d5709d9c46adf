//! OpenNebula's formats: what is written comes back, and nothing that somebody typed becomes anything else.

use countersign_wire::fuzzing;
use countersign_wire::one::mad::*;
use countersign_wire::one::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Bytes as a hostile user would choose them.
fn bytes(up_to: usize) -> impl Strategy<Value = Vec<u8>> {
    let spicy = prop_oneof![
        Just(0),
        Just(b' '),
        Just(b'\t'),
        Just(b'\n'),
        Just(b'\r'),
        Just(b'&'),
        Just(b'<'),
        32..127_u8,
        any::<u8>()
    ];
    vec(spicy, 0..=up_to)
}

proptest! {
    /// What a driver gets is what was typed, or it gets nothing.
    #[test]
    fn secrets_cross_whole(
        secret in prop_oneof![bytes(60), "\\PC{0,40}".prop_map(String::into_bytes)],
        stored in option::of("[^\\x00-\\x1f]{0,40}"), version in 1..Profile::ALL.len(),
    ) {
        let user: UserName = "zoë".parse().unwrap();
        let login = Authn { user: &user, stored: stored.as_deref().map(str::as_bytes), secret: &secret };
        let legal = |c: char| c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}' || "\t\n\r".contains(c);
        let text = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|text| text.chars().all(legal));
        let crosses = text(&secret) && stored.as_deref().is_none_or(|stored| text(stored.as_bytes()));
        match login.encode(Profile::ALL[version]) {
            Ok(DriverInput::Document(document)) => {
                prop_assert!(crosses && document.expose().is_ascii());
                let read = AuthnDocument::parse(document.expose()).unwrap();
                prop_assert_eq!(read.secret.expose(), &secret[..]);
                let stored = stored.filter(|stored| !stored.is_empty() && stored != "-");
                prop_assert_eq!(read.stored.as_ref().map(|s| s.expose()), stored.as_deref().map(str::as_bytes));
                // Cut off anywhere, it is refused.
                for end in 0..document.len() {
                    prop_assert!(AuthnDocument::parse(&document.expose()[..end]).is_err());
                }
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(error) => prop_assert!(!crosses, "{}", error),
        }
    }

    #[test]
    fn replies_of_drivers_come_back(
        stored in "[!-~]{1,40}", groups in vec((0..=2_147_483_647_u32, any::<bool>()), 0..20),
    ) {
        let groups: Vec<_> = groups.into_iter()
            .map(|(gid, admin)| GroupEntry { group: gid.try_into().unwrap(), admin }).collect();
        let reply = Reply::new("ldap".parse().unwrap(), "é%20".parse().unwrap(), stored.as_str().into(), &groups).unwrap();
        let mut line = Vec::new();
        reply.encode(&mut line);
        line.push(b'\n');
        let answer = DriverAnswer::parse(&line, b"");
        prop_assert_eq!(answer, Ok(DriverAnswer { reply: Some(reply), more: false }));
    }

    /// A driver that prints the secret as it is gives nobody a group of their choice.
    #[test]
    fn nobody_types_a_group(secret in "[a0-9 \t\n*]{0,12}") {
        let line = format!("length test {secret}\n");
        if let Ok(DriverAnswer { reply: Some(reply), .. }) = DriverAnswer::parse(line.as_bytes(), secret.as_bytes()) {
            prop_assert!(reply.groups().is_empty(), "{:?}", reply);
        }
    }

    /// What oned sends is what the manager reads, in every version, or it has an answer.
    #[test]
    fn logins_come_back(
        id in 0..=i64::MAX as u64, user_id in option::of(0..=2_147_483_647_u32), version in 0..Profile::ALL.len(),
        stored in option::of("[!-~]{2,40}"), secret in bytes(60),
    ) {
        let profile = Profile::ALL[version];
        let login = Request::Authenticate(Authenticate {
            id, user_id, driver: "ldap".parse().unwrap(), user: "é".parse().unwrap(),
            stored: stored.as_deref().map(Into::into), secret: secret.as_slice().into(),
        });
        let mut out = Vec::new();
        if login.encode(profile, &mut out).is_err() {
            prop_assert!(!profile.encodes_secrets() && secret.contains(&b'\n'));
            return Ok(());
        }
        let mut lines = LineSplitter::new(LINE_LIMIT);
        lines.feed(&out);
        let Some(Line::Whole(line)) = lines.next_line() else { panic!("a line") };
        match Request::parse(line, profile.into()) {
            Ok(read) => prop_assert_eq!(read, Some(login)),
            Err(bad) => {
                prop_assert!(secret.is_empty() || !profile.encodes_secrets() && secret.contains(&b' '), "{}", bad);
                prop_assert_eq!(bad.waits, Some((Verb::Authenticate, id)));
            }
        }
        while let Some(line) = lines.next_line() {
            prop_assert_eq!(line, Line::Whole(b""));
        }
    }

    #[test]
    fn every_response_is_one_line(id: u64, text in ".{0,80}|[ \\n\\r-]{0,6}") {
        let id = id / 2;
        for response in [
            Response::Authenticate { id, answer: Answer::No(&text) },
            Response::Authorize { id, answer: Err(&text) },
            Response::Log { severity: Severity::Info, about: Some(id), text: &text },
        ] {
            let mut out = Vec::new();
            response.encode(&mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(!String::from_utf8(out.clone()).unwrap().contains(char::is_control));
            prop_assert!(!out.ends_with(b" "));
            match ManagerLine::parse(&out) {
                Ok(ManagerLine::Answer { id: read, success, .. }) => prop_assert_eq!((read, success), (id, false)),
                Ok(ManagerLine::Log { about, .. }) => prop_assert_eq!(about, Some(id)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// Any value that has no backslash before a quote or at its end.
    #[test]
    fn values_of_oned_conf_come_back(value in "[^\\\\\\x00]{1,40}", blanks in "[ \\t\\n]{0,3}") {
        let quoted = value.replace('"', "\\\"");
        let conf = format!("AUTH_MAD{blanks}=[{blanks}executable{blanks}= \"{quoted}\"{blanks}]# \"");
        let read: conf::OnedConf = conf.parse().unwrap();
        prop_assert_eq!(read.auth_mad.unwrap().executable, value);
    }

    #[test]
    fn reasons_are_one_line(version in 0..Profile::ALL.len(), stderr in bytes(300), secret in bytes(8)) {
        let errors = DriverErrors::read(Profile::ALL[version], &stderr, &secret);
        for line in errors.lines.iter().map(|line| &line.text).chain(&errors.reason) {
            prop_assert!(!line.contains(char::is_control) && line.len() <= STDERR_LINE_LIMIT);
        }
    }

    #[test]
    fn nothing_panics(data in bytes(300)) {
        fuzzing::one_reply(&data);
        fuzzing::one_document(&data);
        fuzzing::one_mad(&data);
        fuzzing::one_conf(&data);
        for start in ["\x07AUTHENTICATE  7 2 ldap u ", "\x07AUTHENTICATE 7 2 ldap u - ", "\x07AUTHORIZE  7 2 "] {
            fuzzing::one_mad(&[start.as_bytes(), &data].concat());
        }
        fuzzing::one_document(&[b"<AUTHN><USERNAME>u</USERNAME><SECRET>", &data[..], b"</SECRET></AUTHN>"].concat());
        fuzzing::one_reply(&[b"\xffx u p ", &data[..]].concat());
    }
}
