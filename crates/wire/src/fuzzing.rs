//! The bodies of the fuzz targets, one function each: `fuzz/` feeds them what libFuzzer invents,
//! `tests/corpora.rs` replays what is checked in. They panic when a promise of this crate is broken.

use crate::dovecot::master::{
    self, Handover, MASTER_LINE_LIMIT, MasterError, MasterLine, MasterReply,
};
use crate::dovecot::{
    AuthWriter, ClientLine, Dialect, InitialResponse, LINE_LIMIT, LineError, Lines, ServerHello,
    ServerLine, encode_ok, encode_response, escape, unescape,
};
pub use crate::one::fuzzing::*;
use crate::saslauthd::{self, Answer, Ask, Progress, Reply};

/// A whole stream from a Dovecot client, under each dialect.
pub fn dovecot_client(data: &[u8]) {
    same_lines_in_chunks(data);
    for minor in [0, 2] {
        let dialect = Dialect { minor, response_limit: 512 };
        for line in Lines::new(data, LINE_LIMIT).map_while(Result::ok) {
            client_line(line, &dialect);
        }
    }
    let mut escaped = Vec::new();
    escape(data, &mut escaped);
    assert_eq!(unescape(&escaped), data);
}

fn client_line(line: &[u8], dialect: &Dialect) {
    match ClientLine::parse(line, dialect) {
        Ok(ClientLine::Auth(request)) => {
            assert!(request.id() != 0 && !request.service().is_empty());
            // Asking for anything must be safe, and what is understood can be said again.
            let _ = format!("{request:?}");
            let _ = (request.local_ip(), request.real_local_ip(), request.real_remote_ip());
            let _ = (request.local_port(), request.real_local_port(), request.real_remote_port());
            let _ = (request.local_name(), request.client_id(), request.forward_fields());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
            let (Ok(mechanism), Ok(service)) =
                (text(&request.mechanism()), text(&request.service()))
            else {
                return;
            };
            let mut out = Vec::new();
            let mut again = AuthWriter::new(&mut out, request.id(), &mechanism, &service);
            if let Some(session) = request.session() {
                again = again.param("session", &session);
            }
            if let Some(ip) = request.remote_ip() {
                again = again.param("rip", ip.to_string().as_bytes());
            }
            if request.nologin() {
                again = again.flag("nologin");
            }
            match request.initial() {
                InitialResponse::Absent => again.without_response(),
                InitialResponse::Empty => again.respond(b""),
                InitialResponse::Data(data) => again.respond(data.expose()),
            }
            let mut lines = Lines::new(&out, usize::MAX);
            let Some(Ok(line)) = lines.next() else { panic!("one line") };
            assert_eq!(lines.consumed(), out.len());
            let Ok(ClientLine::Auth(same)) = ClientLine::parse(line, dialect) else {
                panic!("{request:?}")
            };
            assert_eq!(same.mechanism(), request.mechanism());
            assert_eq!(same.session(), request.session());
            assert_eq!(same.remote_ip(), request.remote_ip());
            assert_eq!(same.nologin(), request.nologin());
            assert_eq!(same.initial(), request.initial());
        }
        Ok(ClientLine::Cont { id, data }) => {
            let mut out = Vec::new();
            encode_response(&mut out, id, data.expose());
            match ClientLine::parse(out.trim_suffix_lf(), dialect) {
                Ok(ClientLine::Cont { id: same, data: again }) => {
                    assert_eq!((same, again), (id, data));
                }
                other => panic!("{other:?}"),
            }
        }
        Err(LineError::Rejected(rejected)) => {
            let mut out = Vec::new();
            rejected.fail(&mut out);
            match ServerLine::parse(out.trim_suffix_lf()) {
                Ok(ServerLine::Fail(fail)) => {
                    assert_eq!((fail.id, fail.code()), (rejected.id, rejected.why.code()));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(_) | Err(LineError::Framing(_)) => {}
    }
}

/// A whole stream from a Dovecot server.
pub fn dovecot_server(data: &[u8]) {
    let mut hello = ServerHello::default();
    for line in Lines::new(data, LINE_LIMIT).map_while(Result::ok) {
        let Ok(line) = ServerLine::parse(line) else { continue };
        let _ = hello.accept(&line);
        match line {
            ServerLine::Ok(granted) => {
                let _ = (granted.response(), granted.fields().count());
                let Some(user) = granted.user() else { continue };
                let mut out = Vec::new();
                encode_ok(&mut out, granted.id, &user, &[("anonymous", None)], None);
                let Ok(ServerLine::Ok(again)) = ServerLine::parse(out.trim_suffix_lf()) else {
                    panic!("{granted:?}")
                };
                assert_eq!((again.id, again.user()), (granted.id, Some(user)));
            }
            ServerLine::Fail(refused) => {
                let _ = (refused.user(), refused.reason(), refused.code());
            }
            _ => {}
        }
    }
}

/// A whole stream from a client of a Dovecot master socket, and the same bytes taken for replies.
pub fn dovecot_master(data: &[u8]) {
    for line in Lines::new(data, MASTER_LINE_LIMIT).map_while(Result::ok) {
        if let Ok(reply) = MasterReply::parse(line) {
            let _ = format!("{reply:?}");
        }
        let mut out = Vec::new();
        match MasterLine::parse(line) {
            Ok(MasterLine::User(lookup)) => {
                assert!(lookup.id != 0 && !lookup.user().is_empty());
                let _ = (lookup.service(), lookup.remote_ip());
                master::encode_user(&mut out, lookup.id, &lookup.user(), &[("x", Some(line))]);
                match MasterReply::parse(out.trim_suffix_lf()) {
                    Ok(MasterReply::User { id, user, fields }) => {
                        assert_eq!((id, user), (lookup.id, lookup.user()));
                        assert_eq!(fields.value("x").as_deref(), Some(line));
                    }
                    other => panic!("{other:?}"),
                }
            }
            Ok(MasterLine::List(list)) => {
                let mask = list.mask();
                master::encode_list(&mut out, list.id, mask.as_deref());
                match MasterLine::parse(out.trim_suffix_lf()) {
                    Ok(MasterLine::List(again)) => assert_eq!(again.mask(), mask),
                    other => panic!("{other:?}"),
                }
            }
            Ok(MasterLine::Request(login)) => {
                let _ = login.session_pid();
                let Handover { id, client_pid, client_id, cookie, .. } = login;
                master::encode_request(&mut out, id, client_pid, client_id, cookie);
                match MasterLine::parse(out.trim_suffix_lf()) {
                    Ok(MasterLine::Request(again)) => {
                        assert_eq!((again.id, again.cookie), (id, cookie));
                        assert_eq!((again.client_pid, again.client_id), (client_pid, client_id));
                    }
                    other => panic!("{other:?}"),
                }
            }
            Err(MasterError::Rejected(rejected)) => {
                master::encode_fail(&mut out, rejected.id, Some(&rejected.why.to_string()));
                assert!(matches!(
                    MasterReply::parse(out.trim_suffix_lf()),
                    Ok(MasterReply::Fail { .. })
                ));
            }
            Ok(_) | Err(MasterError::Framing(_)) => {}
        }
    }
}

/// What a client of saslauthd sends, and the same bytes taken for a reply.
pub fn saslauthd(data: &[u8]) {
    let whole = saslauthd::parse_request(data, 64);
    match &whole {
        Ok(Progress::NeedMore(bytes)) => assert!(*bytes > 0 && *bytes <= 64 + 8),
        Ok(Progress::Complete(request)) => {
            let mut out = Vec::new();
            Ask {
                login: request.login,
                password: request.password.expose(),
                service: request.service,
                realm: request.realm,
                client: request.client,
            }
            .encode(&mut out)
            .expect("what was read can be written");
            assert!(data.starts_with(&out));
            assert_eq!(saslauthd::parse_request(&out, 64), whole);
        }
        Err(error) => {
            let mut out = Vec::new();
            Reply::No(&error.to_string()).encode(&mut out);
            assert!(matches!(saslauthd::parse_reply(&out), Answer::Refused(_)));
        }
    }
    // With fewer bytes the verdict may be "more", never another request.
    for have in 0..data.len().min(32) {
        if let Ok(Progress::NeedMore(bytes)) = saslauthd::parse_request(&data[..have], 64)
            && let Ok(Progress::Complete(_)) = whole
        {
            assert!(have + bytes <= data.len());
        }
    }
    if let Answer::NeedMore(bytes) = saslauthd::parse_reply(data) {
        assert!(bytes > 0);
    }
}

/// However a stream is cut into reads, the lines are the same. The first byte chooses the size of a read.
fn same_lines_in_chunks(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let limit = 64;
    let whole: Vec<_> = Lines::new(data, limit).map(|line| line.map(<[u8]>::to_vec)).collect();
    let mut unread = Vec::new();
    let mut pieces = Vec::new();
    for chunk in data.chunks(usize::from(size).max(1)) {
        unread.extend_from_slice(chunk);
        let mut lines = Lines::new(&unread, limit);
        pieces.extend(lines.by_ref().map(|line| line.map(<[u8]>::to_vec)));
        let consumed = lines.consumed();
        unread.drain(..consumed);
        if pieces.last().is_some_and(Result::is_err) {
            break;
        }
    }
    assert_eq!(pieces, whole);
}

trait TrimSuffixLf {
    fn trim_suffix_lf(&self) -> &[u8];
}

impl TrimSuffixLf for Vec<u8> {
    /// An encoder ends its line, a parser wants it without the end.
    fn trim_suffix_lf(&self) -> &[u8] {
        self.strip_suffix(b"\n").expect("an encoder ends its line")
    }
}
