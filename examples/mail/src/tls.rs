//! What TLS tells about who is at the other end.

use countersign::{Peer, Transport};
use countersign_tls::{Bindings, ClientCertificate};

/// What TLS knows of a connection.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What ties a login to it.
    pub bindings: Bindings,
    /// What the client has shown.
    pub client: Option<ClientCertificate>,
}

impl Channel {
    /// Makes it facts about the peer. Whom a client's certificate is for, it may be without a password: EXTERNAL.
    pub fn tell(self, peer: &mut Peer) {
        peer.transport = Transport::Tls;
        peer.more.channel_bindings = self.bindings;
        if let Some(client) = self.client {
            peer.more.external = client.name;
            peer.more.certificates = client.chain;
        }
    }
}
