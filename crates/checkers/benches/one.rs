//! What a login costs by OpenNebula's drivers that are built in: `ssh`, `x509`, `server_cipher`. Each figure is the
//! middle of several rounds.
//!
//! `cargo bench -p countersign-checkers --features one-ssh,one-cipher,one-x509 --bench one [-- ROUNDS]`

use std::time::Duration;

use countersign::Secret;
use countersign_checkers::one::cipher::{self, Cipher, CipherOptions};
use countersign_checkers::one::signing::SigningKey;
use countersign_checkers::one::ssh::{self, Ssh, SshOptions};
use countersign_checkers::one::x509::{self, X509Options};
use countersign_checkers::one::{Driver, Login, Outcome};
use countersign_checkers::pki::Authorities;
use countersign_wire::one::UserName;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// In January 2027, and an hour later.
const NOW: i64 = 1_800_000_000;
const EXPIRES: i64 = NOW + 3600;
/// How long a round takes.
const ROUND: Duration = Duration::from_millis(300);
const RSA: &str = include_str!("../src/one/testing/rsa2048.pem");
const ED25519: &str = include_str!("../src/one/testing/ed25519");

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(7);
    let alice: UserName = "alice".parse().unwrap();
    let server: UserName = "serveradmin".parse().unwrap();

    for (name, pem) in [("ssh, RSA 2048", RSA), ("ssh, Ed25519", ED25519)] {
        let key = SigningKey::read(pem.as_bytes(), None).unwrap();
        let stored = Secret::from(key.stored().unwrap());
        let token = ssh::token(&key, &alice, EXPIRES).unwrap();
        let driver = Ssh::new(SshOptions::default());
        let login = || accepted(&driver, Login::new(&alice, Some(&stored), &token, NOW));
        print(name, rounds, &login);
    }

    let stored = cipher::stored(&Secret::from("opennebula"));
    let token = cipher::token(&stored, &server, &alice, EXPIRES).unwrap();
    let driver = Cipher::new(CipherOptions::default());
    let login = || {
        accepted(&driver, Login::new(&server, Some(&stored), &token, NOW).acting_for(&alice));
    };
    print("server_cipher", rounds, &login);

    let (authorities, chain) = chain();
    let key = SigningKey::read(RSA.as_bytes(), None).unwrap();
    let token = x509::token(&key, chain.as_bytes(), &alice, EXPIRES).unwrap();
    let stored = Secret::from(x509::stored(chain.as_bytes()).unwrap());
    let options = X509Options::default();
    let login = || {
        let login = Login::new(&alice, Some(&stored), &token, NOW);
        x509::verify(&login, &authorities, &options).unwrap();
    };
    print("x509, three certificates, RSA 2048", rounds, &login);
}

fn accepted(driver: &dyn Driver, login: Login<'_>) {
    let attempt = countersign::testing::now_or_never(driver.authenticate(login));
    assert!(matches!(attempt.unwrap().outcome, Outcome::Accepted(_)));
}

/// A trusted certificate, and one between it and the user's, all by the same RSA key.
fn chain() -> (Authorities, String) {
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2036, 1, 1);
        params
    };
    let authority = |name: &str| {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    // webpki takes two certificates of one key for a loop only where the names are equal, too.
    let key = || KeyPair::from_pem_and_sign_algo(RSA, &rcgen::PKCS_RSA_SHA256).unwrap();
    let root = authority("root");
    let trusted = root.self_signed(&key()).unwrap();
    let between = authority("between");
    let middle = between.signed_by(&key(), &Issuer::new(root, key())).unwrap();
    let own = params("alice").signed_by(&key(), &Issuer::new(between, key())).unwrap();
    let mut authorities = Authorities::default();
    authorities.add(trusted.der().clone()).unwrap();
    (authorities, own.pem() + &middle.pem())
}

fn print(name: &str, rounds: usize, login: &dyn Fn()) {
    let mut rates: Vec<f64> = (0..rounds.max(1)).map(|_| round(login)).collect();
    rates.sort_by(f64::total_cmp);
    let (low, middle, high) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!("{name:<36} {middle:>9.0} logins in a second of one core ({low:.0} to {high:.0})");
}

/// Logins in a second of this thread's time on a processor: so that it matters little what else runs.
fn round(login: &dyn Fn()) -> f64 {
    let (begun, mut count) = (cpu(), 0_u32);
    while cpu() - begun < ROUND {
        for _ in 0..16 {
            login();
        }
        count += 16;
    }
    f64::from(count) / (cpu() - begun).as_secs_f64()
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
