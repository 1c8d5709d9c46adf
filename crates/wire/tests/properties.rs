//! The two sides of each protocol against each other, with whatever bytes proptest thinks of.

use std::borrow::Cow;
use std::net::IpAddr;

use countersign_wire::dovecot::*;
use countersign_wire::fuzzing;
use countersign_wire::saslauthd::{self, Answer, Ask, Progress, Reply, parse_reply, parse_request};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Bytes as a hostile client would choose them: many separators, escapes and NULs among them.
fn bytes(up_to: usize) -> impl Strategy<Value = Vec<u8>> {
    let spicy = prop_oneof![
        Just(0),
        Just(1),
        Just(b'\t'),
        Just(b'\n'),
        Just(b'\r'),
        Just(b'='),
        any::<u8>()
    ];
    vec(spicy, 0..=up_to)
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![1..=u32::MAX, Just(1), Just(u32::MAX)]
}

fn owned(value: Option<Cow<'_, [u8]>>) -> Option<Vec<u8>> {
    value.map(Cow::into_owned)
}

fn only_line(written: &[u8]) -> &[u8] {
    let mut lines = Lines::new(written, usize::MAX);
    let line = lines.next().expect("a line").expect("no limit");
    assert_eq!(lines.consumed(), written.len(), "one line and nothing else");
    line
}

proptest! {
    #[test]
    fn escapes_come_back(value in bytes(64)) {
        let mut text = Vec::new();
        escape(&value, &mut text);
        prop_assert_eq!(&*unescape(&text), &value[..]);
        prop_assert!(!text.iter().any(|byte| b"\0\t\r\n".contains(byte)));
    }

    #[test]
    fn auth_comes_back(
        id in id(), mechanism in "[ -~]{1,20}|.{1,8}", service in ".{1,12}",
        rip in option::of(any::<IpAddr>()), rport in option::of(any::<u16>()),
        session in option::of(bytes(24)), cert in option::of(bytes(24)),
        nologin: bool, penalty: bool, secured in 0..3, minor in 0..5_u32,
        response in option::of(bytes(200)),
    ) {
        let mut out = Vec::new();
        let mut auth = AuthWriter::new(&mut out, id, &mechanism, &service);
        if let Some(rip) = rip { auth = auth.param("rip", rip.to_string().as_bytes()); }
        if let Some(rport) = rport { auth = auth.param("rport", rport.to_string().as_bytes()); }
        if let Some(session) = &session { auth = auth.param("session", session); }
        if let Some(cert) = &cert { auth = auth.param("cert_username", cert).flag("valid-client-cert"); }
        if nologin { auth = auth.flag("nologin"); }
        if !penalty { auth = auth.flag("no-penalty"); }
        match secured { 1 => auth = auth.flag("secured"), 2 => auth = auth.param("secured", b"tls"), _ => {} }
        match &response { Some(response) => auth.respond(response), None => auth.without_response() }

        let dialect = Dialect { minor, ..Dialect::default() };
        let line = ClientLine::parse(only_line(&out), &dialect);
        let Ok(ClientLine::Auth(request)) = line else { return Err(TestCaseError::fail(format!("{line:?}"))) };
        prop_assert_eq!(request.id(), id);
        prop_assert_eq!(&*request.mechanism(), mechanism.as_bytes());
        prop_assert_eq!(&*request.service(), service.as_bytes());
        prop_assert_eq!(request.remote_ip(), rip.map(|ip| ip.to_canonical()));
        prop_assert_eq!(request.remote_port(), rport);
        prop_assert_eq!(owned(request.session()), session);
        prop_assert_eq!(request.valid_client_cert(), cert.is_some());
        prop_assert_eq!(owned(request.cert_username()), cert);

        prop_assert_eq!((request.nologin(), request.no_penalty()), (nologin, !penalty));
        prop_assert_eq!(request.secured() as i32, secured);
        match (request.initial(), response) {
            (InitialResponse::Absent, None) => {}
            (InitialResponse::Empty, Some(sent)) => prop_assert!(sent.is_empty()),
            (InitialResponse::Data(data), Some(sent)) => prop_assert_eq!(data.expose(), &sent[..]),
            (other, sent) => prop_assert!(false, "{:?} for {:?}", other, sent),
        }
    }

    #[test]
    fn continuations_come_back(id in id(), data in bytes(200)) {
        let mut out = Vec::new();
        encode_response(&mut out, id, &data);
        let line = ClientLine::parse(only_line(&out), &Dialect::default());
        prop_assert!(matches!(&line, Ok(ClientLine::Cont { id: i, data: d }) if *i == id && d.expose() == data), "{:?}", line);

        out.clear();
        encode_cont(&mut out, id, &data);
        let line = ServerLine::parse(only_line(&out));
        prop_assert!(matches!(&line, Ok(ServerLine::Cont { id: i, challenge: d }) if *i == id && d.expose() == data), "{:?}", line);
    }

    #[test]
    fn replies_come_back(id in id(), user in bytes(40), value in bytes(40), reason in ".{0,40}", code in 0..6_usize) {
        let mut out = Vec::new();
        encode_ok(&mut out, id, &user, &[("home", Some(&value)), ("anonymous", None)], Some(&value));
        let Ok(ServerLine::Ok(granted)) = ServerLine::parse(only_line(&out)) else { panic!("OK") };
        prop_assert_eq!(granted.id, id);
        prop_assert_eq!(owned(granted.user()), Some(user.clone()));
        prop_assert_eq!(granted.response().map(|r| r.expose().to_vec()), Some(value.clone()));
        let fields: Vec<_> = granted.fields().collect();
        prop_assert_eq!(&*fields[0].0, b"user");
        prop_assert_eq!((&*fields[1].0, &*fields[1].1), (&b"home"[..], &value[..]));

        let codes = [FailCode::TempFail, FailCode::AuthzFail, FailCode::UserDisabled, FailCode::PassExpired, FailCode::InvalidBase64];
        let code = codes.get(code).copied();
        out.clear();
        Fail { user: Some(&user), reason: Some(&reason), code }.encode(&mut out, id);
        let Ok(ServerLine::Fail(refused)) = ServerLine::parse(only_line(&out)) else { panic!("FAIL") };
        prop_assert_eq!((refused.id, refused.code()), (id, code));
        prop_assert_eq!(owned(refused.user()), Some(user));
        prop_assert_eq!(owned(refused.reason()), Some(reason.into_bytes()));
    }

    /// A bad request in the middle changes nothing for those before and after it.
    #[test]
    fn neighbours_do_not_notice(bad in vec(any::<u8>().prop_filter("one line", |b| *b != b'\n'), 0..80), secret in bytes(30)) {
        let mut sent = Vec::new();
        AuthWriter::new(&mut sent, 1, "PLAIN", "smtp").respond(&secret);
        sent.extend_from_slice(b"AUTH\t2\t");
        sent.extend_from_slice(&bad);
        sent.push(b'\n');
        AuthWriter::new(&mut sent, 3, "PLAIN", "smtp").respond(&secret);
        let lines: Vec<_> = Lines::new(&sent, LINE_LIMIT).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(lines.len(), 3);
        for (line, number) in [(lines[0], 1), (lines[2], 3)] {
            let parsed = ClientLine::parse(line, &Dialect::default());
            prop_assert!(matches!(parsed, Ok(ClientLine::Auth(request)) if request.id() == number));
        }
        match ClientLine::parse(lines[1], &Dialect::default()) {
            Ok(ClientLine::Auth(request)) => prop_assert_eq!(request.id(), 2),
            Err(LineError::Rejected(rejected)) => prop_assert_eq!(rejected.id, 2),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// However the bytes are cut into reads.
    #[test]
    fn lines_do_not_depend_on_reads(data in bytes(300), cuts in vec(1..40_usize, 1..30), limit in 0..40_usize) {
        let owned = |line: Result<&[u8], LineTooLong>| line.map(<[u8]>::to_vec);
        let whole: Vec<_> = Lines::new(&data, limit).map(owned).collect();
        let (mut unread, mut pieces, mut rest) = (Vec::new(), Vec::new(), &data[..]);
        for cut in cuts.iter().cycle() {
            let (read, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            unread.extend_from_slice(read);
            let mut lines = Lines::new(&unread, limit);
            pieces.extend(lines.by_ref().map(owned));
            let consumed = lines.consumed();
            unread.drain(..consumed);
            if rest.is_empty() || pieces.last().is_some_and(Result::is_err) { break; }
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn saslauthd_comes_back(fields in vec(vec(1..=255_u8, 0..40), 4), client in option::of(vec(1..=255_u8, 0..40))) {
        let ask = Ask { login: &fields[0], password: &fields[1], service: &fields[2], realm: &fields[3], client: client.as_deref() };
        let mut out = Vec::new();
        ask.encode(&mut out).unwrap();
        let four: usize = fields.iter().map(|field| field.len() + 2).sum();
        for have in 0..=out.len() {
            match parse_request(&out[..have], 40) {
                Ok(Progress::NeedMore(more)) => prop_assert!(more >= 1 && have + more <= out.len()),
                Ok(Progress::Complete(request)) => {
                    prop_assert!(have >= four);
                    prop_assert_eq!(request.login, ask.login);
                    prop_assert_eq!(request.password.expose(), ask.password);
                    prop_assert_eq!((request.service, request.realm), (ask.service, ask.realm));
                    // The fifth string counts as soon as its length is there, and then whole.
                    prop_assert_eq!(request.client, if have >= four + 2 { ask.client } else { None });
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert!(matches!(parse_request(&out, 40), Ok(Progress::Complete(_))));
    }

    #[test]
    fn a_refusal_is_never_read_as_a_yes(reason in ".{0,2000}") {
        let mut out = Vec::new();
        Reply::No(&reason).encode(&mut out);
        prop_assert!(out.len() <= 2 + saslauthd::REPLY_LIMIT);
        prop_assert!(matches!(parse_reply(&out), Answer::Refused(_)));
        for have in 0..out.len() {
            prop_assert!(matches!(parse_reply(&out[..have]), Answer::NeedMore(_)));
        }
    }

    #[test]
    fn nothing_panics(data in bytes(400)) {
        fuzzing::dovecot_client(&data);
        fuzzing::dovecot_server(&data);
        fuzzing::saslauthd(&data);
        // As if it came after a command, so that it gets past the first word.
        for command in ["AUTH\t1\tPLAIN\tservice=x\t", "CONT\t1\t", "OK\t1\t", "FAIL\t1\t", "MECH\t"] {
            let line = [command.as_bytes(), &data].concat();
            fuzzing::dovecot_client(&line);
            fuzzing::dovecot_server(&line);
        }
    }
}
