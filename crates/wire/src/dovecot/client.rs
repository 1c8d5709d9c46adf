//! What a client sends, as a client writes it: for the load generator, the tests and the PAM module.
//!
//! SASL messages go into the caller's vector in base64. Wiping it is the caller's part, and so is giving it
//! enough capacity that growing does not leave copies behind.

use super::reply::{begin, field};
use super::{MAJOR, decimal, escape};
use crate::sasl_data;

/// Appends `VERSION 1 minor` and `CPID pid`. A `minor` above 1 promises that an empty `resp=` is meant.
pub fn encode_hello(out: &mut Vec<u8>, minor: u32, pid: u32) {
    begin(out, b"VERSION", MAJOR);
    out.push(b'\t');
    decimal::push(out, minor);
    out.push(b'\n');
    begin(out, b"CPID", pid);
    out.push(b'\n');
}

/// Appends `CONT id response`.
pub fn encode_response(out: &mut Vec<u8>, id: u32, response: &[u8]) {
    begin(out, b"CONT", id);
    out.push(b'\t');
    sasl_data::encode(response, out);
    out.push(b'\n');
}

/// Appends `CANCEL id`.
pub fn encode_cancel(out: &mut Vec<u8>, id: u32) {
    begin(out, b"CANCEL", id);
    out.push(b'\n');
}

/// Writes one AUTH line, parameter by parameter. It must be ended by [`respond`](Self::respond) or
/// [`without_response`](Self::without_response): the initial response is the last parameter or none.
#[must_use = "the line has no end yet"]
#[derive(Debug)]
pub struct AuthWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> AuthWriter<'o> {
    /// Begins `AUTH id mechanism service=…`. An id is not 0, and unused on this connection.
    pub fn new(out: &'o mut Vec<u8>, id: u32, mechanism: &str, service: &str) -> Self {
        begin(out, b"AUTH", id);
        out.push(b'\t');
        escape(mechanism.as_bytes(), out);
        field(out, "service", Some(service.as_bytes()));
        Self { out }
    }

    /// `name`: `secured`, `nologin`, `valid-client-cert`, …
    pub fn flag(self, name: &str) -> Self {
        field(self.out, name, None);
        self
    }

    /// `name=value`: `rip`, `lip`, `session`, …
    pub fn param(self, name: &str, value: &[u8]) -> Self {
        field(self.out, name, Some(value));
        self
    }

    /// Ends the line with an initial response. An empty one is written `resp==`, which every version reads
    /// as empty, while `resp=` means absent to some.
    pub fn respond(self, response: &[u8]) {
        self.out.extend_from_slice(b"\tresp=");
        if response.is_empty() {
            self.out.push(b'=');
        }
        sasl_data::encode(response, self.out);
        self.out.push(b'\n');
    }

    /// Ends the line; the server speaks first.
    pub fn without_response(self) {
        self.out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postfix_writes_it() {
        let mut out = Vec::new();
        encode_hello(&mut out, 0, 1234);
        AuthWriter::new(&mut out, 1, "plain", "smtp")
            .flag("nologin")
            .param("lip", b"192.0.2.1")
            .param("rip", b"unknown")
            .flag("secured")
            .respond(b"\0u1\0secret");
        encode_response(&mut out, 2, b"");
        encode_cancel(&mut out, 3);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "VERSION\t1\t0\nCPID\t1234\n\
             AUTH\t1\tplain\tservice=smtp\tnologin\tlip=192.0.2.1\trip=unknown\tsecured\tresp=AHUxAHNlY3JldA==\n\
             CONT\t2\t\nCANCEL\t3\n"
        );
    }
}
