//! The world as an argument: time, entropy, and who is at the other end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::{DigestClaim, Identity, KindSet, ProvenKey, Verified};

/// A point in time, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds on a clock that never steps, from an arbitrary start. For deadlines.
    pub steady_ms: u64,
    /// Seconds since 1970, UTC. For one-time codes, expiry and records. May step.
    pub unix: i64,
}

/// Where time and randomness come from. The server's is the machine's; a test owns its own.
pub trait World: Send + Sync {
    /// What time it is.
    fn now(&self) -> Moment;
    /// Fills `bytes` with bytes nobody can guess. Must not return with weak ones: rather end the
    /// process.
    fn fill(&self, bytes: &mut [u8]);
}

/// Everything a step may look at besides its answers.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What time it is.
    pub now: Moment,
    /// Randomness, and time for whoever measures within the step.
    pub world: &'a dyn World,
    /// Who is asking to be let in, as far as the connection tells.
    pub peer: &'a Peer,
    /// The name that the peer's protocol gave before any question (SSH, HTTP Digest), unproven.
    pub claimed: Option<&'a str>,
    /// What earlier factors of this attempt have proven, in order. Empty for the first.
    pub proven: &'a [Verified<Identity>],
    /// Whether another checker is asked when this one does not know the user, and only then. An unknown
    /// user takes the work of a wrong password once, at the last checker; spending it at each would make
    /// the unknown ones slower than the known.
    pub followed: bool,
    /// What can be asked from here, where a carrier dresses questions for a peer that by itself answers
    /// opaque tokens only. See [`Scene::supports`].
    pub carries: Option<&'a KindSet>,
    /// The challenge that an earlier checker of the same mechanism has put to the peer in this attempt, and
    /// that the peer has answered. A mechanism whose server speaks first uses it in place of one of its own
    /// making: then the peer's answer is good for both, where it would not understand to be asked again.
    pub challenged: Option<&'a [u8]>,
}

impl<'a> Scene<'a> {
    /// The kinds of questions that reach somebody who can answer them.
    pub fn supports(&self) -> &'a KindSet {
        self.carries.unwrap_or(&self.peer.supports)
    }

    /// The scene of a first factor, before anything is claimed or proven, at the only checker.
    pub fn of(peer: &'a Peer, world: &'a dyn World) -> Self {
        Self::at(world.now(), peer, world)
    }

    /// The same, at a moment that is known already.
    pub(crate) fn at(now: Moment, peer: &'a Peer, world: &'a dyn World) -> Self {
        Self {
            now,
            world,
            peer,
            claimed: None,
            proven: &[],
            followed: false,
            carries: None,
            challenged: None,
        }
    }
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("now", &self.now).field("peer", &self.peer).finish()
    }
}

/// What a connection tells about its other end. Facts only: nothing here is claimed by the user.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// What the login is for: `imap`, `smtp`, `http`. A policy key.
    pub service: Arc<str>,
    /// The front end it came through: `dovecot`, `saslauthd`, `http`.
    pub front_end: &'static str,
    /// The listener of that front end, as the configuration names it: `http.main`. A thin reference: many
    /// peers wait.
    pub listener: Option<&'static String>,
    /// Where the user is.
    pub remote: Option<IpAddr>,
    /// Where the user connected to.
    pub local: Option<IpAddr>,
    /// How the user's connection is protected.
    pub transport: Transport,
    /// The user id of the process at the other end of a local socket.
    pub uid: Option<u32>,
    /// What the peer can answer.
    pub supports: KindSet,
    /// What few connections tell: `peer.more.external`.
    pub more: More,
}

/// [`Facts`], which take no room in a peer that has none: many conversations wait, and each has its peer.
/// Reads and writes go through to them.
#[derive(Clone, Debug, Default)]
pub struct More(Option<Box<Facts>>);

/// What only some connections tell.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What a trusted lower layer has authenticated: a client certificate's name reported by the mail
    /// server, a peer's user name on a local socket.
    pub external: Option<Arc<str>>,
    /// The client's certificate chain in DER, leaf first, verified by our own TLS.
    pub certificates: Vec<Arc<[u8]>>,
    /// The SSH key that has signed this login, where the transport's library has verified that (RFC 4252 §7).
    pub key: Option<ProvenKey>,
    /// TLS channel bindings by name (RFC 5929, RFC 9266), shared by the logins of a connection.
    pub channel_bindings: Arc<BTreeMap<&'static str, Vec<u8>>>,
    /// What our greeting challenged the peer with before it said anything: the timestamp of POP3 (RFC 1939
    /// §7), fresh for each connection. For APOP.
    pub greeting: Option<Arc<str>>,
    /// The claim to a name in an HTTP Digest header whose nonce is ours, fresh, and counted on: read by
    /// the front end, and to be proven by the response that it answers with.
    pub digest: Option<Arc<DigestClaim>>,
    /// The span of somebody else's that this login is part of, if they are believed.
    pub trace: Option<TraceParent>,
    /// Anything else worth a record: the client's own session id, its user agent.
    pub details: BTreeMap<&'static str, String>,
}

/// A span of whoever asks, as the header `traceparent` says it (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
    /// Whether it is recorded.
    pub sampled: bool,
}

/// What is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTraceParent;

/// How a connection is protected against listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Not at all.
    #[default]
    Plain,
    /// It does not leave the machine.
    Local,
    /// TLS.
    Tls,
}

impl Peer {
    /// A peer of a service, and what it can answer.
    pub fn new(service: impl Into<Arc<str>>, supports: KindSet) -> Self {
        Self { service: service.into(), supports, ..Self::default() }
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut fields = text.split('-');
        let [version] = hex(fields.next()).ok_or(NoTraceParent)?;
        let trace: [u8; 16] = hex(fields.next()).ok_or(NoTraceParent)?;
        let span: [u8; 8] = hex(fields.next()).ok_or(NoTraceParent)?;
        let [flags] = hex(fields.next()).ok_or(NoTraceParent)?;
        // A later version may say more, behind what this one says.
        let more = version == 0 && fields.next().is_some();
        if version == 0xff || more || trace == [0; 16] || span == [0; 8] {
            return Err(NoTraceParent);
        }
        Ok(Self { trace, span, sampled: flags & 1 != 0 })
    }
}

/// Bytes in lower-case hexadecimal digits.
fn hex<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    let digits = text.filter(|text| text.len() == 2 * N)?.as_bytes();
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

impl std::fmt::Display for NoTraceParent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no `traceparent`, such as 00-(32 hexadecimal digits)-(16)-01")
    }
}

impl std::error::Error for NoTraceParent {}

impl Deref for More {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        static NONE: LazyLock<Facts> = LazyLock::new(Facts::default);
        self.0.as_deref().unwrap_or_else(|| &NONE)
    }
}

impl DerefMut for More {
    fn deref_mut(&mut self) -> &mut Facts {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_take_room_where_there_are_any() {
        let mut peer = Peer::new("imap", KindSet::none());
        assert!(peer.more.external.is_none() && peer.more.0.is_none());
        peer.more.external = Some("ada".into());
        assert_eq!(peer.clone().more.external.as_deref(), Some("ada"));
        assert!(size_of::<Peer>() <= 128, "{}", size_of::<Peer>());
    }

    /// The examples of W3C Trace Context, section 3.2.4, and what it forbids.
    #[test]
    fn a_trace_parent_has_one_form() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent: TraceParent = format!("00-{trace}-{span}-01").parse().unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.sampled), (0x4b, 0xb7, true));
        assert!(!format!("00-{trace}-{span}-00").parse::<TraceParent>().unwrap().sampled);
        assert!(format!("cc-{trace}-{span}-01-more").parse::<TraceParent>().is_ok());
        for text in [
            "",
            "00",
            &format!("ff-{trace}-{span}-01"),
            &format!("00-{trace}-{span}"),
            &format!("00-{trace}-{span}-01-more"),
            &format!("00-{trace}-{span}-1"),
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("00-{trace}-{}-01", "0".repeat(16)),
            &format!("00-{}-{span}-01", trace.to_uppercase()),
            &format!("00-{}é-{span}-01", &trace[2..]),
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }
}
