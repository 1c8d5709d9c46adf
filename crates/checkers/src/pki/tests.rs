//! Chains of every shape, by rcgen; and OpenSSL's names.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::*;

/// In January 2027.
const NOW: i64 = 1_800_000_000;

/// A certificate with its key, as an authority signs with it.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn user(serial: u8) -> CertificateParams {
    let mut params = params("alice");
    params.serial_number = Some(SerialNumber::from_slice(&[serial]));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

impl Made {
    fn root(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn signs(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self { params, key, certificate }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// A list of revoked serial numbers, good until a year.
    fn list(&self, serials: &[u8], until: i32) -> Vec<u8> {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: date_time_ymd(2026, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(until, 6, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().der().to_vec()
    }
}

fn trusting(root: &Made) -> Authorities {
    let mut authorities = Authorities::default();
    authorities.add(root.der()).unwrap();
    authorities
}

fn check(authorities: &Authorities, chain: &[&Made]) -> Result<(), String> {
    let chain: Vec<_> = chain.iter().map(|made| made.der()).collect();
    let verified = authorities.verify(&chain, NOW, Revocation::IfPresent);
    verified.map_err(|error| error.to_string())
}

fn refused(authorities: &Authorities, chain: &[&Made], why: &str) {
    let error = check(authorities, chain).unwrap_err();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_chain_leads_to_an_authority() {
    let root = Made::root(authority("root"));
    let between = root.signs(authority("between"));
    let lower = between.signs(authority("lower"));
    let (direct, far) = (root.signs(user(1)), lower.signs(user(2)));
    let mut authorities = trusting(&root);
    assert_eq!(check(&authorities, &[&direct]), Ok(()));
    assert_eq!(check(&authorities, &[&far, &lower, &between]), Ok(()));
    assert_eq!(check(&authorities, &[&far, &lower, &between, &root]), Ok(()));
    refused(&authorities, &[&far, &between], "UnknownIssuer");
    refused(&authorities, &[], "no certificate");
    refused(&Authorities::default(), &[&direct], "UnknownIssuer");
    refused(&trusting(&Made::root(authority("root"))), &[&direct], "chain is not accepted");
    // What stands between may also be in the folder.
    authorities.add(lower.der()).unwrap();
    authorities.add(between.der()).unwrap();
    assert_eq!(check(&authorities, &[&far]), Ok(()));
    refused(&authorities, &[&direct; 11], "more certificates");
    // Who signs with a name that is not theirs.
    let impostor = Made::root(authority("between")).signs(user(3));
    refused(&authorities, &[&impostor], "chain is not accepted");
}

/// "a certificate chain in which an end-entity certificate (CA:FALSE, or without keyCertSign) signs another"
#[test]
fn only_authorities_sign() {
    let root = Made::root(authority("root"));
    let authorities = trusting(&root);
    let plain = root.signs(user(1));
    refused(&authorities, &[&plain.signs(user(2)), &plain], "EndEntityUsedAsCa");
    let mut unsaid = params("unsaid");
    unsaid.is_ca = IsCa::ExplicitNoCa;
    unsaid.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let unsaid = root.signs(unsaid);
    refused(&authorities, &[&unsaid.signs(user(2)), &unsaid], "EndEntityUsedAsCa");
    let mut no_sign = authority("no sign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let no_sign = root.signs(no_sign);
    refused(&authorities, &[&no_sign.signs(user(2)), &no_sign], "may not sign certificates");
    // Nor may a trusted one, nor an authority log in.
    for params in [params("root"), no_sign.params.clone()] {
        assert!(Authorities::default().add(Made::root(params).der()).is_err());
    }
    refused(&authorities, &[&root.signs(authority("x"))], "for signatures");
    let mut both = authority("both");
    both.key_usages.push(KeyUsagePurpose::DigitalSignature);
    refused(&authorities, &[&root.signs(both)], "CaUsedAsEndEntity");
    let mut seals = user(4);
    seals.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    refused(&authorities, &[&root.signs(seals)], "not for signatures");
}

#[test]
fn paths_are_as_long_as_their_authorities_allow() {
    let limited = |name: &str, most| {
        let mut params = authority(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        params
    };
    let root = Made::root(authority("root"));
    let between = root.signs(limited("between", 0));
    let lower = between.signs(authority("lower"));
    let authorities = trusting(&root);
    assert_eq!(check(&authorities, &[&between.signs(user(1)), &between]), Ok(()));
    refused(&authorities, &[&lower.signs(user(2)), &lower, &between], "PathLen");
    // The trusted one's own limit counts, too.
    let root = Made::root(limited("root", 0));
    let between = root.signs(authority("between"));
    let authorities = trusting(&root);
    assert_eq!(check(&authorities, &[&root.signs(user(1))]), Ok(()));
    refused(&authorities, &[&between.signs(user(2)), &between], "than its first one allows");
}

#[test]
fn certificates_are_valid_now() {
    let old = |mut params: CertificateParams| {
        params.not_after = date_time_ymd(2027, 1, 1);
        params
    };
    let early = |mut params: CertificateParams| {
        params.not_before = date_time_ymd(2028, 1, 1);
        params
    };
    let root = Made::root(authority("root"));
    let authorities = trusting(&root);
    refused(&authorities, &[&root.signs(old(user(1)))], "CertExpired");
    refused(&authorities, &[&root.signs(early(user(1)))], "CertNotValidYet");
    let between = root.signs(old(authority("between")));
    refused(&authorities, &[&between.signs(user(1)), &between], "CertExpired");
    for params in [old(authority("root")), early(authority("root"))] {
        let root = Made::root(params);
        refused(&trusting(&root), &[&root.signs(user(1))], "own certificate is not valid now");
    }
    let usual = root.signs(user(1)).der();
    assert!(authorities.verify(&[usual], -1, Revocation::IfPresent).is_err());
}

/// "a revoked certificate anywhere in the chain, not only the leaf"
#[test]
fn nothing_in_the_chain_is_revoked() {
    let root = Made::root(authority("root"));
    let mut params = authority("between");
    params.serial_number = Some(SerialNumber::from_slice(&[9]));
    let between = root.signs(params);
    let own = between.signs(user(1));
    let chain = [&own, &between];
    let with = |lists: &[Vec<u8>]| {
        let mut authorities = trusting(&root);
        for list in lists {
            authorities.add_list(&list.as_slice().into()).unwrap();
        }
        authorities
    };
    let (good_root, good) = (root.list(&[5], 2028), between.list(&[7], 2028));
    assert_eq!(check(&with(&[good_root.clone(), good.clone()]), &chain), Ok(()));
    assert_eq!(check(&with(std::slice::from_ref(&good)), &chain), Ok(()));
    refused(&with(&[between.list(&[1], 2028)]), &chain, "CertRevoked");
    refused(&with(&[root.list(&[9], 2028), good.clone()]), &chain, "CertRevoked");
    refused(&with(&[root.list(&[9], 2028)]), &chain, "CertRevoked");
    // A list that has run out says nothing any more, and so nobody gets in.
    refused(&with(&[between.list(&[], 2026)]), &chain, "CrlExpired");
    // Another's list by the same name.
    let impostor = Made::root(authority("between"));
    refused(&with(&[impostor.list(&[], 2028)]), &chain, "InvalidCrlSignature");
    let required = |authorities: &Authorities| {
        let chain: Vec<_> = chain.iter().map(|made| made.der()).collect();
        authorities.verify(&chain, NOW, Revocation::Required).map_err(|error| error.to_string())
    };
    assert_eq!(required(&with(&[good_root.clone(), good.clone()])), Ok(()));
    assert!(required(&with(&[good])).unwrap_err().contains("UnknownRevocationStatus"));
    assert!(required(&with(&[good_root])).unwrap_err().contains("UnknownRevocationStatus"));
    assert!(required(&with(&[])).unwrap_err().contains("one is required"));
    let mut authorities = trusting(&root);
    for bytes in [&b""[..], b"x", &[&between.list(&[], 2028)[..], b"x"].concat()] {
        assert!(authorities.add_list(&bytes.into()).is_err());
    }
}

#[test]
fn a_folder_is_read_again() {
    let pem = |label: &str, der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let root = Made::root(authority("root"));
    let own = root.signs(user(1));
    write("README", "no certificate");
    write("5ed36f99.0", &root.certificate.pem());
    std::os::unix::fs::symlink("5ed36f99.0", folder.path().join("root.pem")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("broken")).unwrap();
    let open = || AuthoritiesFolder::open(folder.path());
    let read = open().unwrap();
    let now = countersign::testing::now_or_never(read.current()).unwrap().unwrap();
    assert_eq!(now.len(), 1, "by two names, and once");
    assert_eq!(check(&now, &[&own]), Ok(()));
    write("5ed36f99.r0", &pem("X509 CRL", &root.list(&[1], 2028)));
    let changed = countersign::testing::now_or_never(open().unwrap().current()).unwrap().unwrap();
    refused(&changed, &[&own], "CertRevoked");
    // A list that cannot be read would let in whom it revokes.
    for text in ["", "no list", &pem("X509 CRL", b"x")] {
        write("5ed36f99.r0", text);
        assert!(open().is_err(), "{text}");
    }
    assert!(AuthoritiesFolder::open(folder.path().join("none")).is_err());
}

fn line_of(parts: &[(DnType, &str)]) -> Result<String, &'static str> {
    use x509_parser::prelude::FromDer as _;
    let mut params = user(1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in parts {
        params.distinguished_name.push(kind.clone(), *value);
    }
    let der = Made::root(params).der();
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    oneline(certificate.subject())
}

#[test]
fn names_have_one_line() {
    use DnType::{CommonName, CountryName, OrganizationName};
    let line =
        line_of(&[(CountryName, "ES"), (OrganizationName, "Test Org"), (CommonName, "Älice")]);
    assert_eq!(line.as_deref(), Ok("/C=ES/O=Test Org/CN=\\xC3\\x84lice"));
    assert_eq!(escaped("/O=Test Org/CN=a  b"), "/O=Test\\20Org/CN=a\\20\\20b");
    assert_eq!(line_of(&[(CommonName, "host/a.b")]).as_deref(), Ok("/CN=host/a.b"));
    assert_eq!(line_of(&[(CommonName, "a\tb\0")]).as_deref(), Ok("/CN=a\\x09b\\x00"));
    // What would be taken for another.
    for value in ["x/CN=alice", "a\\20b", "\\xC3", "a|/CN=alice", "a/b/UID=0"] {
        assert!(line_of(&[(CommonName, value)]).is_err(), "{value}");
    }
    assert!(line_of(&[]).is_err());
}
