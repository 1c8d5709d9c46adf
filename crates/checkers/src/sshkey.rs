//! `[checker.sshkey.NAME]`: SSH keys and certificates, as in `authorized_keys`. It offers `publickey`.
//!
//! A signature is verified here, or by a transport; either way what lets somebody in is a
//! [`ProvenKey`]. Contract: `docs/protocols/publickey.md`.

mod certificate;
mod krl;
mod listed;
mod revoked;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{
    Denial, Fault, FaultKind, Identity, KeyStore, OfferedKey, ProvenKey, PublicKey, Reason, Scene,
    Verdict, Verified,
};
use ssh_key::{HashAlg, SshSig};

use certificate::Certificate;
pub(crate) use certificate::{Shown, flags, verify};
use listed::{Listed, comes_from, expiry, is_in};
use revoked::Revoked;
use source::{Asked, Files, Words, check_pattern};

/// The namespace of signatures that log in (K4).
pub const NAMESPACE: &str = "countersign";

/// No user has more keys.
const MOST_LINES: usize = 10_000;

/// Where keys are, and which count.
#[derive(Clone, Debug)]
pub struct SshKeyOptions {
    /// Files of keys: `%u` is the user's name, `%h` the home folder. What is relative is below the home folder.
    pub files: Vec<String>,
    /// A command that prints keys, with its arguments; `%u`, `%h`, `%f`, `%t` and `%k` in them.
    pub command: Option<Vec<String>>,
    /// A file of authorities whose certificates are good for those whom they name.
    pub authorities: Option<PathBuf>,
    /// A file of what counts no more.
    pub revoked: Option<PathBuf>,
    /// Where home folders and user ids are: passwd(5).
    pub passwd: PathBuf,
    /// Whether files that others can write are left out, as sshd's `StrictModes` does.
    pub strict: bool,
    /// How long reading may take.
    pub timeout: Duration,
}

impl Default for SshKeyOptions {
    /// The user's own file, as sshd reads it.
    fn default() -> Self {
        Self {
            files: Vec::new(),
            command: None,
            authorities: None,
            revoked: None,
            passwd: "/etc/passwd".into(),
            strict: true,
            timeout: Duration::from_secs(5),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {what}")]
pub struct SshKeyError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong with it, and what to do.
    pub what: String,
}

/// Keys of users.
#[derive(Debug)]
pub struct SshKeys {
    files: Arc<Files>,
    command: Option<Asked>,
    authorities: Option<PathBuf>,
    revoked: Option<PathBuf>,
    timeout: Duration,
}

/// What a key is good for.
struct Entitled {
    /// What the session must obey, verbatim, with a certificate's extensions.
    options: Vec<String>,
    command: Option<String>,
    extensions: Vec<String>,
    touch: bool,
    verified: bool,
    certificate: Option<(String, u64)>,
}

impl SshKeys {
    /// Keys as these options say.
    ///
    /// # Errors
    ///
    /// Which of them cannot be.
    pub fn new(options: SshKeyOptions) -> Result<Self, SshKeyError> {
        let wrong = |key| move |what| SshKeyError { key, what };
        for pattern in &options.files {
            check_pattern(pattern, "uh%").map_err(wrong("files"))?;
        }
        let command = match options.command {
            None => None,
            Some(argv) => {
                let command = Asked { argv, timeout: options.timeout };
                command.check().map_err(wrong("command"))?;
                Some(command)
            }
        };
        if options.files.is_empty() && command.is_none() && options.authorities.is_none() {
            let what =
                "there is nowhere to look for keys: give `files`, `command` or `authorities`";
            return Err(SshKeyError { key: "files", what: what.into() });
        }
        if let Some(revoked) = &options.revoked {
            Revoked::open(revoked).map_err(wrong("revoked"))?;
        }
        let files =
            Files { patterns: options.files, passwd: options.passwd, strict: options.strict };
        Ok(Self {
            files: Arc::new(files),
            command,
            authorities: options.authorities,
            revoked: options.revoked,
            timeout: options.timeout,
        })
    }

    /// A checker of that name, which offers `publickey`.
    pub fn checker(self, name: impl Into<String>) -> PublicKey<Self> {
        PublicKey::new(name, self)
    }

    /// What a key is good for, were it proven: for this user, from there, now.
    async fn entitled(
        &self,
        login: &str,
        blob: &[u8],
        scene: &Scene<'_>,
    ) -> Result<Result<Entitled, Denial>, Fault> {
        let deny = |reason, why: String| Ok(Err(Denial::new(reason).because(why)));
        let shown = match Shown::read(blob) {
            Ok(shown) => shown,
            Err(why) => return deny(Reason::WrongCredential, why.to_owned()),
        };
        let lines = self.lines(login, &shown, blob).await?;
        if let Some(path) = self.revoked.clone() {
            let revoked = self.beside("revoked keys", move || Revoked::open(&path)).await?;
            let revoked = revoked.map_err(|why| Fault::unavailable(format!("`revoked`: {why}")))?;
            if revoked.has(blob, &shown.blob, shown.certificate.as_ref()) {
                return deny(Reason::Disabled, "the key is revoked".into());
            }
        }
        // As sshd does: one line that lets in is enough.
        let mut last = None;
        for (listed, trusted) in &lines {
            match entitles(listed, *trusted, &shown, login, scene) {
                None => {}
                Some(Ok(entitled)) => return Ok(Ok(entitled)),
                Some(Err(why)) => last = Some(why),
            }
        }
        match last {
            Some(why) => deny(Reason::NotAllowed, why.to_owned()),
            // Not a wrong proof: another checker may know the key.
            None => deny(Reason::UnknownUser, format!("no such key is listed for {login}")),
        }
    }

    /// Reads something beside the runtime, in time: home folders may be far away.
    async fn beside<T: Send + 'static>(
        &self,
        what: &str,
        reading: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let reading = tokio::task::spawn_blocking(reading);
        let read = tokio::time::timeout(self.timeout, reading).await;
        let read = read.map_err(|_| Fault::new(FaultKind::Timeout, format!("reading {what}")))?;
        read.map_err(|error| Fault::internal(format!("reading {what}")).caused_by(error))
    }

    /// The lines that could be about a key; those of authorities are marked.
    async fn lines(
        &self,
        login: &str,
        shown: &Shown,
        blob: &[u8],
    ) -> Result<Vec<(Listed, bool)>, Fault> {
        let fingerprint = shown.key.fingerprint(HashAlg::Sha256).to_string();
        let kind = shown.key.algorithm().to_string();
        let key = STANDARD.encode(blob);
        let words = Words { login, fingerprint: &fingerprint, kind: &kind, key: &key };
        let mut texts = Vec::new();
        if !self.files.patterns.is_empty() || self.authorities.is_some() {
            let (files, authorities) = (Arc::clone(&self.files), self.authorities.clone());
            let login = login.to_owned();
            let reading = move || {
                let words = Words { login: &login, fingerprint: "", kind: "", key: "" };
                let own = files.read(&words)?;
                let trusted = authorities.map(|path| {
                    let shown = path.display().to_string();
                    std::fs::read_to_string(path).map_err(|error| {
                        Fault::unavailable(format!("reading {shown}")).caused_by(error)
                    })
                });
                Ok::<_, Fault>((own, trusted.transpose()?))
            };
            let read = self.beside("files of keys", reading).await?;
            let (own, trusted) = read?;
            texts.extend(own.into_iter().map(|text| (text, false)));
            texts.extend(trusted.map(|text| (text, true)));
        }
        if let Some(command) = &self.command {
            let printed = command.read(&words, &self.files).await?;
            texts.extend(printed.into_iter().map(|text| (text, false)));
        }
        let authority =
            shown.certificate.as_ref().map(|certificate| certificate.authority.as_slice());
        let mut lines = Vec::new();
        for (text, trusted) in &texts {
            for line in text.lines().take(MOST_LINES) {
                match Listed::read(line) {
                    Ok(Some(listed))
                        if listed.blob == shown.blob || authority == Some(&listed.blob) =>
                    {
                        lines.push((listed, *trusted));
                    }
                    Ok(_) => {}
                    Err(why) => tracing::debug!(why, "a line of keys is left out"),
                }
            }
        }
        Ok(lines)
    }
}

/// What a line makes of a key: nothing, when it is not about it; or why not.
fn entitles(
    listed: &Listed,
    trusted: bool,
    shown: &Shown,
    login: &str,
    scene: &Scene<'_>,
) -> Option<Result<Entitled, &'static str>> {
    let of_authority = trusted || listed.has("cert-authority");
    let certificate = match (&shown.certificate, of_authority) {
        // A line for a key says nothing of certificates, nor one for an authority of its key.
        (None, true) | (Some(_), false) => return None,
        (None, false) => None,
        (Some(certificate), true) if certificate.authority == listed.blob => Some(certificate),
        (Some(_), true) => return None,
    };
    let remote = scene.peer.remote;
    let line = || {
        if let Some(list) = listed.value("from")
            && !comes_from(list, remote)
        {
            return Err("the key is not good from there");
        }
        if let Some(time) = listed.value("expiry-time")
            && expiry(time).is_none_or(|ends| scene.now.unix >= ends)
        {
            return Err("the key's time has passed");
        }
        let mut entitled = Entitled {
            options: listed.options.iter().map(shown_option).collect(),
            command: listed.value("command").map(str::to_owned),
            extensions: Vec::new(),
            touch: shown.is_sk() && !listed.has("no-touch-required"),
            verified: shown.is_sk() && listed.has("verify-required"),
            certificate: None,
        };
        if let Some(certificate) = certificate {
            let principals = listed.value("principals");
            certified(certificate, principals, login, scene)?;
            entitled.certificate = Some((certificate.id.clone(), certificate.serial));
            entitled.extensions.clone_from(&certificate.extensions);
            let untouched = certificate.extensions.iter().any(|name| name == "no-touch-required");
            // Both must say that no touch is needed; an authority that is trusted by itself speaks alone.
            entitled.touch = shown.is_sk() && !(untouched && (trusted || !entitled.touch));
            for (name, value) in &certificate.critical {
                match name.as_str() {
                    "source-address" if is_in(value, remote) => {}
                    "source-address" => return Err("the certificate is not good from there"),
                    "verify-required" => entitled.verified = shown.is_sk(),
                    "force-command" => match &entitled.command {
                        Some(other) if other != value => {
                            return Err("the line and the certificate force different commands");
                        }
                        _ => entitled.command = Some(value.clone()),
                    },
                    _ => return Err("the certificate has a critical option that is not known"),
                }
            }
        }
        Ok(entitled)
    };
    Some(line())
}

/// Whether a certificate of an authority that counts is one of this user, now.
fn certified(
    certificate: &Certificate,
    principals: Option<&str>,
    login: &str,
    scene: &Scene<'_>,
) -> Result<(), &'static str> {
    if !certificate.is_user {
        return Err("the certificate is not a user's");
    }
    let now = u64::try_from(scene.now.unix).unwrap_or_default();
    if now < certificate.valid_after || now >= certificate.valid_before {
        return Err("the certificate is not valid now");
    }
    // One without principals would be everybody's.
    let is_wanted = |principal: &String| match principals {
        Some(listed) => listed.split(',').any(|one| one.trim() == principal),
        None => principal == login,
    };
    match certificate.principals.iter().any(is_wanted) {
        true => Ok(()),
        false => Err("the certificate is another user's"),
    }
}

fn shown_option(option: &listed::Given) -> String {
    match &option.value {
        Some(value) => format!("{}=\"{}\"", option.name, value.replace('"', "\\\"")),
        None => option.name.clone(),
    }
}

impl KeyStore for SshKeys {
    async fn lists(
        &self,
        login: &str,
        key: &OfferedKey,
        scene: &Scene<'_>,
    ) -> Result<Result<(), Denial>, Fault> {
        Ok(self.entitled(login, key.blob(), scene).await?.map(|_| ()))
    }

    async fn check_key(&self, key: &ProvenKey, scene: &Scene<'_>) -> Result<Verdict, Fault> {
        let entitled = match self.entitled(key.user(), key.key().blob(), scene).await? {
            Ok(entitled) => entitled,
            Err(denial) => return Ok(Verdict::Not(denial)),
        };
        let lacking = match &entitled {
            Entitled { verified: true, .. } if !key.verified() => "verified who its user is",
            Entitled { touch: true, .. } if !key.touched() => "been touched by its user",
            _ => "",
        };
        if !lacking.is_empty() {
            let denial = Denial::new(Reason::WrongCredential);
            return Ok(Verdict::Not(denial.because(format!("the key has not {lacking}"))));
        }
        let mut who = Identity::named(key.user());
        let shown = Shown::read(key.key().blob()).map_err(Fault::internal)?;
        who = who.with("ssh-key", shown.key.fingerprint(HashAlg::Sha256).to_string());
        for option in entitled.options {
            who = who.with("ssh-option", option);
        }
        for extension in entitled.extensions {
            who = who.with("ssh-extension", extension);
        }
        if let Some(command) = entitled.command {
            who = who.with("ssh-command", command);
        }
        if let Some((id, serial)) = entitled.certificate {
            who = who.with("ssh-certificate", format!("{id} (serial {serial})"));
        }
        Ok(Verdict::Is(Verified::vouch(who)))
    }

    fn verify(
        &self,
        login: &str,
        key: &OfferedKey,
        message: &[u8],
        signature: &[u8],
    ) -> Option<ProvenKey> {
        let shown = Shown::read(key.blob()).ok()?;
        let signature = SshSig::from_pem(signature).ok()?;
        if signature.public_key() != shown.key.key_data() || signature.namespace() != NAMESPACE {
            return None;
        }
        let signed = SshSig::signed_data(NAMESPACE, signature.hash_alg(), message).ok()?;
        if !signature.reserved().is_empty() || !verify(&shown.key, &signed, signature.signature()) {
            return None;
        }
        let flags = flags(signature.signature());
        let proven = ProvenKey::vouch(key.clone(), login);
        Some(proven.by_user(flags & 1 != 0, flags & 4 != 0))
    }
}

/// A list of what is revoked, for fuzzing: whatever is read answers whether a key is on it.
pub(crate) fn fuzz_revoked(data: &[u8]) {
    if let Ok(revoked) = krl::read(data) {
        let _ = revoked.has(data, data, None);
    }
}

#[cfg(test)]
mod tests;
