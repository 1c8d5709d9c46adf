//! A server that is played: what it is asked and what it says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign::Secret;
use ldap3::asn1::{PL, StructureTag, TagClass, parse_tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::answer::Entry;
use super::super::guard::whole;

/// What a client asks.
#[derive(Debug)]
pub(super) enum Request {
    Bind { dn: String, password: Secret },
    Search,
    StartTls,
    Unbind,
}

/// What a played server does with a request: the bytes it sends, or the end of the connection.
type Plays = dyn Fn(u8, &Request) -> Option<Vec<u8>> + Send + Sync;

pub(super) struct Played {
    pub(super) url: String,
    connections: Arc<AtomicUsize>,
    /// Names that were bound with, in order.
    binds: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Played {
    pub(super) async fn start(
        plays: impl Fn(u8, &Request) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        let plays: Arc<Plays> = Arc::new(plays);
        let (connections, binds) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<_>>::default());
        let (count, names) = (Arc::clone(&connections), Arc::clone(&binds));
        let task = tokio::spawn(async move {
            let mut set = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                set.spawn(play(stream, Arc::clone(&plays), Arc::clone(&names)));
            }
        });
        Self { url, connections, binds, task }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn binds(&self) -> Vec<String> {
        self.binds.lock().unwrap().clone()
    }
}

/// Until the client ends, or says what is no LDAP.
async fn play(mut stream: TcpStream, plays: Arc<Plays>, binds: Arc<Mutex<Vec<String>>>) {
    let mut unread = Vec::new();
    while stream.read_buf(&mut unread).await.is_ok_and(|read| read > 0) {
        loop {
            let length = match whole(&unread) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(_) => return,
            };
            let message: Vec<u8> = unread.drain(..length).collect();
            let (id, request) = read(&message);
            if let Request::Bind { dn, .. } = &request {
                binds.lock().unwrap().push(dn.clone());
            }
            let Some(answer) = plays(id, &request) else { return };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

fn read(message: &[u8]) -> (u8, Request) {
    let Ok(([], StructureTag { payload: PL::C(parts), .. })) = parse_tag(message) else {
        panic!("{message:?}")
    };
    let [StructureTag { payload: PL::P(id), .. }, request, ..] = parts.as_slice() else {
        panic!("{parts:?}")
    };
    assert_eq!(request.class, TagClass::Application);
    let bytes = |part: &StructureTag| match &part.payload {
        PL::P(bytes) => bytes.clone(),
        PL::C(_) => panic!("{part:?}"),
    };
    let read = match (request.id, &request.payload) {
        (0, PL::C(parts)) => {
            let dn = String::from_utf8(bytes(&parts[1])).unwrap();
            Request::Bind { dn, password: bytes(&parts[2]).into() }
        }
        (2, _) => Request::Unbind,
        (3, _) => Request::Search,
        (23, PL::C(parts)) if bytes(&parts[0]) == b"1.3.6.1.4.1.1466.20037" => Request::StartTls,
        _ => panic!("{request:?}"),
    };
    (id[0], read)
}

/// An element of BER.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]], content.as_slice()].concat()
}

fn message(id: u8, content: &[u8]) -> Vec<u8> {
    element(0x30, &[&[0x02, 1, id], content])
}

fn result(id: u8, tag: u8, code: u8) -> Vec<u8> {
    message(id, &element(tag, &[&[0x0a, 1, code], &[0x04, 0], &[0x04, 0]]))
}

pub(super) fn bind_response(id: u8, code: u8) -> Vec<u8> {
    result(id, 0x61, code)
}

pub(super) fn search_done(id: u8, code: u8) -> Vec<u8> {
    result(id, 0x65, code)
}

pub(super) fn start_tls_response(id: u8, code: u8) -> Vec<u8> {
    result(id, 0x78, code)
}

pub(super) fn search_entry(id: u8, entry: &Entry) -> Vec<u8> {
    let attribute = |(name, values): (&String, &Vec<Vec<u8>>)| {
        let values: Vec<_> = values.iter().map(|value| element(0x04, &[value])).collect();
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        element(0x30, &[&element(0x04, &[name.as_bytes()]), &element(0x31, &values)])
    };
    let attributes: Vec<_> = entry.attributes.iter().map(attribute).collect();
    let attributes: Vec<_> = attributes.iter().map(Vec::as_slice).collect();
    let dn = element(0x04, &[entry.dn.as_bytes()]);
    message(id, &element(0x64, &[&dn, &element(0x30, &attributes)]))
}
