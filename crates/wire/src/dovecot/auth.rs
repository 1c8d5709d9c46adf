//! The AUTH line: who wants in, by which mechanism, and what the client knows about them.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use countersign::Secret;

use super::request::{request_id, sasl_message};
use super::{Dialect, FramingError, LineError, Rejected, Rejection};
use super::{split_field, split_parameter, unescape};

/// A login that begins: `AUTH id mechanism parameter… [resp=…]`.
///
/// Parameters are found once, when the line is read, and interpreted when asked for. Of a parameter that
/// comes twice the last counts; unknown ones are ignored.
pub struct AuthRequest<'l> {
    id: u32,
    /// The line up to `resp=`, so that no SASL data can leak from here.
    line: &'l [u8],
    /// Where each value begins; 0 if absent, which no value can be.
    at: [u16; Parameter::COUNT],
    mechanism: (u16, u16),
    initial: InitialResponse,
}

/// The SASL message that came with the request.
#[derive(Debug, PartialEq, Eq)]
pub enum InitialResponse {
    /// None: the server speaks first, be it with an empty challenge.
    Absent,
    /// There is one, and it is empty: `resp==`, or `resp=` from minor version 2 on.
    Empty,
    /// There is one, and it is not empty.
    Data(Secret),
}

/// What the client says about its own peer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secured {
    /// Not a word: in the clear.
    No,
    /// `secured`: nobody listens in, be it by TLS or because it is local.
    Yes,
    /// `secured=tls`: by TLS.
    Tls,
}

#[derive(Clone, Copy)]
enum Parameter {
    Service,
    Lip,
    Rip,
    Lport,
    Rport,
    RealLip,
    RealRip,
    RealLport,
    RealRport,
    LocalName,
    Session,
    ClientId,
    ForwardFields,
    Debug,
    SslJa3Hash,
    SslClientCertFp,
    SslClientCertPubkeyFp,
    Secured,
    FinalRespOk,
    NoPenalty,
    ValidClientCert,
    CertUsername,
    Nologin,
}

impl Parameter {
    const COUNT: usize = Self::Nologin as usize + 1;

    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"service" | b"protocol" => Self::Service,
            b"lip" => Self::Lip,
            b"rip" => Self::Rip,
            b"lport" => Self::Lport,
            b"rport" => Self::Rport,
            b"real_lip" => Self::RealLip,
            b"real_rip" => Self::RealRip,
            b"real_lport" => Self::RealLport,
            b"real_rport" => Self::RealRport,
            b"local_name" => Self::LocalName,
            b"session" => Self::Session,
            b"client_id" => Self::ClientId,
            b"forward_fields" => Self::ForwardFields,
            b"debug" => Self::Debug,
            b"ssl_ja3_hash" => Self::SslJa3Hash,
            b"ssl_client_cert_fp" => Self::SslClientCertFp,
            b"ssl_client_cert_pubkey_fp" => Self::SslClientCertPubkeyFp,
            b"secured" => Self::Secured,
            b"final-resp-ok" => Self::FinalRespOk,
            b"no-penalty" => Self::NoPenalty,
            b"valid-client-cert" => Self::ValidClientCert,
            b"cert_username" => Self::CertUsername,
            b"nologin" => Self::Nologin,
            _ => return None,
        })
    }
}

impl<'l> AuthRequest<'l> {
    pub(super) fn parse(
        line: &'l [u8],
        rest: Option<&'l [u8]>,
        dialect: &Dialect,
    ) -> Result<Self, LineError> {
        if line.len() > usize::from(u16::MAX) {
            return Err(FramingError::TooLong.into());
        }
        let (id, rest) = request_id("AUTH", rest)?;
        let reject = |why| LineError::from(Rejected { id, why });

        let (mechanism, mut parameters) = split_field(rest.unwrap_or_default());
        if mechanism.is_empty() {
            return Err(reject(Rejection::NoMechanism));
        }
        // Positions fit, because the line does.
        let begins = |rest: Option<&[u8]>| line.len() - rest.map_or(0, <[u8]>::len);
        let start = begins(rest);
        let mut request = Self {
            id,
            line,
            at: [0; Parameter::COUNT],
            mechanism: (start as u16, (start + mechanism.len()) as u16),
            initial: InitialResponse::Absent,
        };

        let mut response = None;
        while let Some(rest) = parameters {
            let start = begins(parameters);
            let (field, more) = split_field(rest);
            let (name, value) = split_parameter(field);
            if let Some(parameter) = Parameter::named(name) {
                let value = start + field.len() - value.len();
                request.at[parameter as usize] = value as u16;
            } else if name == b"resp" {
                if more.is_some() {
                    return Err(reject(Rejection::AfterResponse));
                }
                request.line = &line[..start];
                response = Some(value);
            }
            parameters = more;
        }
        if request.value(Parameter::Service).is_none_or(<[u8]>::is_empty) {
            return Err(reject(Rejection::NoService));
        }
        request.initial = match response {
            None => InitialResponse::Absent,
            // Exim says so for an AUTH command without initial response.
            Some(b"") if dialect.minor < 2 => InitialResponse::Absent,
            Some(text) => match sasl_message(text, dialect).map_err(reject)? {
                empty if empty.is_empty() => InitialResponse::Empty,
                data => InitialResponse::Data(data),
            },
        };
        Ok(request)
    }

    /// The id that every reply repeats, never 0.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The mechanism as the person's own client typed it, so compare without regard to case. Not empty.
    pub fn mechanism(&self) -> Cow<'l, [u8]> {
        let (start, end) = self.mechanism;
        unescape(&self.line[usize::from(start)..usize::from(end)])
    }

    /// `service` (or `protocol`): `smtp`, `imap`, … Not empty.
    pub fn service(&self) -> Cow<'l, [u8]> {
        self.text(Parameter::Service).unwrap_or_default()
    }

    /// The SASL message that came along.
    pub fn initial(&self) -> &InitialResponse {
        &self.initial
    }

    /// The SASL message that came along, to keep; afterwards it is [`InitialResponse::Absent`].
    pub fn take_initial(&mut self) -> InitialResponse {
        std::mem::replace(&mut self.initial, InitialResponse::Absent)
    }

    /// `lip`: where the person's client connected to. Like every address here, `None` if it is none
    /// (Postfix sends `unknown`), and an IPv4 address in IPv6 clothes is undressed.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.ip(Parameter::Lip)
    }

    /// `rip`: where the person's client came from.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.ip(Parameter::Rip)
    }

    /// `lport`.
    pub fn local_port(&self) -> Option<u16> {
        self.port(Parameter::Lport)
    }

    /// `rport`.
    pub fn remote_port(&self) -> Option<u16> {
        self.port(Parameter::Rport)
    }

    /// `real_lip`: as `lip`, before a proxy was believed.
    pub fn real_local_ip(&self) -> Option<IpAddr> {
        self.ip(Parameter::RealLip)
    }

    /// `real_rip`: the proxy itself, where `rip` is what the proxy said.
    pub fn real_remote_ip(&self) -> Option<IpAddr> {
        self.ip(Parameter::RealRip)
    }

    /// `real_lport`.
    pub fn real_local_port(&self) -> Option<u16> {
        self.port(Parameter::RealLport)
    }

    /// `real_rport`.
    pub fn real_remote_port(&self) -> Option<u16> {
        self.port(Parameter::RealRport)
    }

    /// `local_name`: the server name that the person's client asked for (TLS SNI).
    pub fn local_name(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::LocalName)
    }

    /// `session`: an id that the client's own log uses.
    pub fn session(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::Session)
    }

    /// `client_id`: what the person's client says it is (IMAP ID).
    pub fn client_id(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::ClientId)
    }

    /// `forward_fields`: fields from a proxy in front, themselves separated by TAB and escaped once more.
    pub fn forward_fields(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::ForwardFields)
    }

    /// `debug`: the client asks for more words in the log.
    pub fn debug(&self) -> bool {
        self.has(Parameter::Debug)
    }

    /// `ssl_ja3_hash`: a fingerprint of the TLS client.
    pub fn ssl_ja3_hash(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::SslJa3Hash)
    }

    /// `ssl_client_cert_fp`: the fingerprint of the client certificate.
    pub fn ssl_client_cert_fp(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::SslClientCertFp)
    }

    /// `ssl_client_cert_pubkey_fp`: the fingerprint of the key in the client certificate.
    pub fn ssl_client_cert_pubkey_fp(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::SslClientCertPubkeyFp)
    }

    /// `secured` and `secured=tls`. A value that is not known is no more than plain `secured`.
    pub fn secured(&self) -> Secured {
        match self.value(Parameter::Secured) {
            None => Secured::No,
            Some(b"tls") => Secured::Tls,
            Some(_) => Secured::Yes,
        }
    }

    /// `final-resp-ok`: SASL data may come with the OK instead of one more CONT.
    pub fn final_resp_ok(&self) -> bool {
        self.has(Parameter::FinalRespOk)
    }

    /// `no-penalty`: the client asks not to be delayed for failures.
    pub fn no_penalty(&self) -> bool {
        self.has(Parameter::NoPenalty)
    }

    /// `valid-client-cert`: the client says that it checked a client certificate.
    pub fn valid_client_cert(&self) -> bool {
        self.has(Parameter::ValidClientCert)
    }

    /// `cert_username`: the name in that certificate.
    pub fn cert_username(&self) -> Option<Cow<'l, [u8]>> {
        self.text(Parameter::CertUsername)
    }

    /// `nologin`: the client only wants to know, nobody will ask for the user's home afterwards.
    pub fn nologin(&self) -> bool {
        self.has(Parameter::Nologin)
    }

    fn value(&self, parameter: Parameter) -> Option<&'l [u8]> {
        match usize::from(self.at[parameter as usize]) {
            0 => None,
            start => Some(split_field(&self.line[start..]).0),
        }
    }

    fn has(&self, parameter: Parameter) -> bool {
        self.at[parameter as usize] != 0
    }

    fn text(&self, parameter: Parameter) -> Option<Cow<'l, [u8]>> {
        self.value(parameter).map(unescape)
    }

    fn parsed<T: std::str::FromStr>(&self, parameter: Parameter) -> Option<T> {
        std::str::from_utf8(self.value(parameter)?).ok()?.parse().ok()
    }

    fn ip(&self, parameter: Parameter) -> Option<IpAddr> {
        self.parsed::<IpAddr>(parameter).map(|ip| ip.to_canonical())
    }

    fn port(&self, parameter: Parameter) -> Option<u16> {
        self.parsed(parameter)
    }
}

/// Everything but the SASL data.
impl fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("line", &String::from_utf8_lossy(self.line))
            .field("initial", &self.initial)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ClientLine;
    use super::*;

    fn auth<'l>(line: &'l str, minor: u32) -> Result<AuthRequest<'l>, LineError> {
        let dialect = Dialect { minor, ..Dialect::default() };
        match ClientLine::parse(line.as_bytes(), &dialect)? {
            ClientLine::Auth(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    fn rejection(line: &str) -> Rejection {
        match auth(line, 2) {
            Err(LineError::Rejected(Rejected { id: 5, why })) => why,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn as_exim_sends_it() {
        let line = "AUTH\t1\tPLAIN\tservice=smtp\tsecured\tvalid-client-cert\trip=::ffff:192.0.2.7\t\
                    lip=2001:db8::1\tnologin\tresp=AHUxAHNlY3JldA==";
        let mut request = auth(line, 0).unwrap();
        assert_eq!(request.id(), 1);
        assert_eq!(&*request.mechanism(), b"PLAIN");
        assert_eq!(&*request.service(), b"smtp");
        assert_eq!(request.secured(), Secured::Yes);
        assert!(request.valid_client_cert() && request.nologin());
        assert!(!request.no_penalty() && !request.final_resp_ok() && !request.debug());
        assert_eq!(request.remote_ip(), Some([192, 0, 2, 7].into()));
        assert_eq!(request.local_ip().unwrap().to_string(), "2001:db8::1");
        assert_eq!(*request.initial(), InitialResponse::Data(Secret::from("\0u1\0secret")));
        assert_eq!(request.take_initial(), InitialResponse::Data(Secret::from("\0u1\0secret")));
        assert_eq!(*request.initial(), InitialResponse::Absent);
    }

    #[test]
    fn every_parameter() {
        let line = "AUTH\t1\tx\tprotocol=imap\tlport=143\trport=50000\treal_lip=10.0.0.1\t\
            real_rip=10.0.0.2\treal_lport=1\treal_rport=2\tlocal_name=mx.example\tsession=s\x01t1\t\
            client_id=name\tforward_fields=a=b\x01tc=d\tdebug\tssl_ja3_hash=j\tssl_client_cert_fp=f\t\
            ssl_client_cert_pubkey_fp=p\tsecured=tls\tfinal-resp-ok\tno-penalty\tcert_username=ann\t\
            from-the-future=1\t\tlip=";
        let request = auth(line, 0).unwrap();
        let is =
            |value: Option<Cow<'_, [u8]>>, text: &str| assert_eq!(value.unwrap(), text.as_bytes());
        is(Some(request.service()), "imap");
        assert_eq!((request.local_port(), request.remote_port()), (Some(143), Some(50000)));
        assert_eq!(request.real_local_ip(), Some([10, 0, 0, 1].into()));
        assert_eq!(request.real_remote_ip(), Some([10, 0, 0, 2].into()));
        assert_eq!((request.real_local_port(), request.real_remote_port()), (Some(1), Some(2)));
        is(request.local_name(), "mx.example");
        is(request.session(), "s\t1");
        is(request.client_id(), "name");
        is(request.forward_fields(), "a=b\tc=d");
        is(request.ssl_ja3_hash(), "j");
        is(request.ssl_client_cert_fp(), "f");
        is(request.ssl_client_cert_pubkey_fp(), "p");
        is(request.cert_username(), "ann");
        assert_eq!(request.secured(), Secured::Tls);
        assert!(request.debug() && request.final_resp_ok() && request.no_penalty());
        assert_eq!(request.local_ip(), None);
        assert_eq!(*request.initial(), InitialResponse::Absent);
    }

    #[test]
    fn what_is_no_address_is_ignored() {
        for value in ["unknown", "(null)", "", "1.2.3", "1.2.3.4.5", "::x", "127.0.0.1\x01n"] {
            let line = format!("AUTH\t1\tx\tservice=s\trip={value}\trport=65536");
            let request = auth(&line, 0).unwrap();
            assert_eq!((request.remote_ip(), request.remote_port()), (None, None), "{value}");
        }
    }

    #[test]
    fn absent_and_empty_responses() {
        use InitialResponse::{Absent, Empty};
        for (end, minor, expected) in [
            ("", 0, Absent),
            ("", 2, Absent),
            ("\tresp=", 0, Absent),
            ("\tresp=", 1, Absent),
            ("\tresp=", 2, Empty),
            ("\tresp=", 4, Empty),
            ("\tresp", 2, Empty),
            ("\tresp==", 0, Empty),
            ("\tresp==", 2, Empty),
        ] {
            let line = format!("AUTH\t1\tx\tservice=s{end}");
            assert_eq!(*auth(&line, minor).unwrap().initial(), expected, "{end:?}, 1.{minor}");
        }
    }

    #[test]
    fn a_bad_request_fails_with_its_id() {
        assert_eq!(rejection("AUTH\t5"), Rejection::NoMechanism);
        assert_eq!(rejection("AUTH\t5\t\tservice=s"), Rejection::NoMechanism);
        assert_eq!(rejection("AUTH\t5\tPLAIN"), Rejection::NoService);
        assert_eq!(rejection("AUTH\t5\tPLAIN\tservice=\tresp=AA=="), Rejection::NoService);
        assert_eq!(rejection("AUTH\t5\tPLAIN\tservice=s\tresp=AA"), Rejection::InvalidBase64);
        assert_eq!(
            rejection("AUTH\t5\tPLAIN\tservice=s\tresp=AA==\tnologin"),
            Rejection::AfterResponse
        );
        assert_eq!(rejection("AUTH\t5\tPLAIN\tservice=s\tresp=AA==\t"), Rejection::AfterResponse);
        assert_eq!(
            rejection("AUTH\t5\tPLAIN\tservice=s\tresp=AA==\tresp=AA=="),
            Rejection::AfterResponse
        );
    }

    #[test]
    fn the_last_of_two_counts_and_escapes_cannot_smuggle() {
        let request = auth("AUTH\t1\tx\tservice=a\tservice=b\x01tsecured\tuser=c", 0).unwrap();
        assert_eq!(&*request.service(), b"b\tsecured");
        assert_eq!(request.secured(), Secured::No);
    }

    #[test]
    fn a_line_past_every_limit() {
        let line = format!("AUTH\t1\tx\tservice=s\tsession={}", "x".repeat(70_000));
        assert_eq!(auth(&line, 0).unwrap_err(), FramingError::TooLong.into());
    }
}
