//! OpenNebula's formats: what is written comes back, and nothing that somebody typed becomes anything else.

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
}
