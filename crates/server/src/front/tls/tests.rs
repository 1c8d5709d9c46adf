use std::path::Path;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::*;

struct Pair {
    certificate: String,
    key: String,
}

fn pair(not_after: (i32, u8, u8)) -> Pair {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    let key = rcgen::KeyPair::generate().unwrap();
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn put(folder: &Path, pair: &Pair) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, &pair.certificate).unwrap();
    std::fs::write(&files.key, &pair.key).unwrap();
    files
}

fn wrong(files: &TlsFiles) -> String {
    Tls::load(files.clone()).unwrap_err().to_string()
}

#[test]
fn an_error_names_the_file_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (pair((2090, 1, 1)), pair((2090, 1, 1)));
    let files = put(folder.path(), &one);
    Tls::load(files.clone()).unwrap();
    for (which, text, expected) in [
        (&files.certificate, "", "cert.pem: it holds no certificate"),
        (&files.certificate, one.key.as_str(), "cert.pem: it holds no certificate"),
        (&files.certificate, &one.certificate[..200], "cert.pem: it is damaged"),
        (&files.key, "", "key.pem: it holds no private key"),
        (&files.key, other.key.as_str(), "key.pem: the key is not that of the certificate in"),
        (
            &files.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "key.pem: the key is encrypted",
        ),
    ] {
        put(folder.path(), &one);
        std::fs::write(which, text).unwrap();
        let error = wrong(&files);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("BEGIN EC"), "{error}");
    }
    put(folder.path(), &one);
    std::fs::remove_file(&files.key).unwrap();
    assert!(wrong(&files).contains("key.pem: it cannot be read"));
}

#[test]
fn validity_is_told_with_its_date() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(put(folder.path(), &pair((2030, 6, 1)))).unwrap();
    let end = 1_906_502_400;
    assert!(tls.validity(end - 30 * 86_400).unwrap().contains("2030-06-01"));
    assert!(tls.validity(end - 86_400).unwrap_err().contains("expires soon"));
    assert!(tls.validity(end + 1).unwrap_err().contains("expired at 2030-06-01"));
    assert!(tls.validity(0).unwrap_err().contains("not valid before 2020-01-01"));
}

/// The certificate that a client of ours is shown, and the bindings of both sides.
async fn shown(tls: &Tls) -> (CertificateDer<'static>, Bindings, Vec<u8>) {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(Arc::new(client)).connect(name, theirs);
    let (accepted, connected) = tokio::join!(tls.accept(ours), connect);
    let ((_server, bindings), connected) = (accepted.unwrap(), connected.unwrap());
    let (_, connection) = connected.get_ref();
    let label = b"EXPORTER-Channel-Binding";
    let exported = connection.export_keying_material([0; 32], label, None).unwrap();
    let leaf = connection.peer_certificates().unwrap()[0].clone().into_owned();
    (leaf, bindings, exported.to_vec())
}

#[tokio::test]
async fn both_sides_have_the_same_bindings() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(put(folder.path(), &pair((2090, 1, 1)))).unwrap();
    let (leaf, bindings, exported) = shown(&tls).await;
    assert_eq!(bindings["tls-exporter"], exported);
    use sha2::Digest;
    assert_eq!(bindings["tls-server-end-point"], sha2::Sha256::digest(&leaf).to_vec());
}

#[tokio::test]
async fn a_new_certificate_is_used_once_it_is_whole_and_a_bad_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (pair((2090, 1, 1)), pair((2091, 1, 1)));
    let tls = Tls::load(put(folder.path(), &old)).unwrap();
    let first = shown(&tls).await.0;
    assert!(tls.look().is_none(), "nothing changed");

    // Half of it is there: the certificate without its key.
    std::fs::write(folder.path().join("cert.pem"), &new.certificate).unwrap();
    assert!(tls.look().is_none(), "not settled");
    let error = tls.look().unwrap().unwrap_err().to_string();
    assert!(error.contains("is not that of the certificate"), "{error}");
    assert!(tls.look().is_none(), "told once");
    assert_eq!(shown(&tls).await.0, first);

    std::fs::write(folder.path().join("key.pem"), &new.key).unwrap();
    assert!(tls.look().is_none());
    tls.look().unwrap().unwrap();
    let second = shown(&tls).await.0;
    assert_ne!(second, first);

    std::fs::remove_file(folder.path().join("key.pem")).unwrap();
    assert!(tls.look().is_none());
    assert!(tls.look().unwrap().is_err());
    assert!(tls.reload().is_err());
    assert_eq!(shown(&tls).await.0, second);
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(put(folder.path(), &pair((2090, 1, 1)))).unwrap();
    let (ours, mut theirs) = tokio::io::duplex(1024);
    tokio::io::AsyncWriteExt::write_all(&mut theirs, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(tls.accept(ours).await.is_err());
}

/// Takes every certificate: which one was shown is what is tested.
#[derive(Debug)]
struct Anything;

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
