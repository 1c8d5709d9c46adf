//! One-time codes: by time (RFC 6238) and by counter (RFC 4226).

use std::fmt;
use std::str::FromStr;

use countersign::Secret;
use countersign_store::{Credential, CredentialType, NewCredential};
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use super::{Factor, FactorError, Factors, limits, random};

/// How many steps of time a code may be early or late (RFC 6238 §5.2 recommends one).
const DRIFT: i64 = 1;
/// How many codes of a counter may have been shown and not used (RFC 4226 §7.4).
const LOOK_AHEAD: i64 = 10;
/// How many when two codes in a row are given.
const RESYNC: i64 = 1000;

/// What a generator of one-time codes is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtpSettings {
    /// What moves it on from one code to the next.
    pub moving: Moving,
    /// 6 to 8.
    pub digits: u8,
    /// Many apps read SHA-1 whatever they are told, and it is sound here (RFC 4226 §B.2).
    pub algorithm: Algorithm,
}

/// What makes the next code another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    /// The time, in steps of so many seconds (15 to 300).
    Time {
        /// Seconds of a step.
        period: u32,
    },
    /// A counter, which moves with every code that is shown.
    Counter,
}

/// The hash inside of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Default for OtpSettings {
    /// What every app understands: six digits, 30 seconds, SHA-1.
    fn default() -> Self {
        Self { moving: Moving::Time { period: 30 }, digits: 6, algorithm: Algorithm::Sha1 }
    }
}

impl OtpSettings {
    /// By counter; else as usual.
    pub fn counted() -> Self {
        Self { moving: Moving::Counter, ..Self::default() }
    }

    fn check(&self) -> Result<(), FactorError> {
        if !(6..=8).contains(&self.digits) {
            return Err(FactorError::invalid("the number of digits", "is 6, 7 or 8"));
        }
        match self.moving {
            Moving::Time { period } if !(15..=300).contains(&period) => {
                Err(FactorError::invalid("the period", "is 15 to 300 seconds"))
            }
            _ => Ok(()),
        }
    }

    fn kind(&self) -> CredentialType {
        match self.moving {
            Moving::Time { .. } => CredentialType::Totp,
            Moving::Counter => CredentialType::Hotp,
        }
    }
}

impl Algorithm {
    /// As an `otpauth:` address has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Bytes of a new secret: the length of the hash (RFC 6238 §5.1), which is at least the 160 bits of
    /// RFC 4226 §4.
    fn secret_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Sha1, Self::Sha256, Self::Sha512];
        let found = all.into_iter().find(|known| known.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| "SHA1, SHA256 or SHA512".to_owned())
    }
}

/// A generator that was made and not yet enrolled. It holds the secret: keep it on the server, for
/// minutes, and tell it to its user only.
#[derive(Clone)]
pub struct PendingOtp {
    user: String,
    issuer: String,
    codes: Codes,
}

impl PendingOtp {
    /// Whose it will be.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What it is told.
    pub fn settings(&self) -> OtpSettings {
        self.codes.settings
    }

    /// The secret in base32, for typing.
    pub fn base32(&self) -> Secret {
        Secret::from(self.codes.totp.secret().to_base32())
    }

    /// The address for a QR code, as the [Key URI
    /// Format](https://github.com/google/google-authenticator/wiki/Key-Uri-Format) has it. It holds the
    /// secret.
    pub fn uri(&self) -> Secret {
        let OtpSettings { moving, digits, algorithm } = self.codes.settings;
        let (kind, moving) = match moving {
            Moving::Time { period } => ("totp", format!("period={period}")),
            Moving::Counter => ("hotp", "counter=0".to_owned()),
        };
        let (issuer, user) = (encoded(&self.issuer), encoded(&self.user));
        let secret = Zeroizing::new(self.codes.totp.secret().to_base32());
        Secret::from(format!(
            "otpauth://{kind}/{issuer}:{user}?secret={}&issuer={issuer}&algorithm={}&digits={digits}&{moving}",
            secret.as_str(),
            algorithm.name(),
        ))
    }
}

impl fmt::Debug for PendingOtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOtp").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Factors {
    /// Makes a generator of one-time codes for a user: a new secret, nowhere but here. `issuer` is what
    /// the app shows beside the user's name.
    ///
    /// # Errors
    ///
    /// [`FactorError::Invalid`].
    pub fn begin_otp(
        &self,
        user: &str,
        issuer: &str,
        settings: OtpSettings,
    ) -> Result<PendingOtp, FactorError> {
        settings.check()?;
        if issuer.is_empty() || issuer.contains(':') || issuer.chars().any(char::is_control) {
            return Err(FactorError::invalid("the issuer", "is some text without a colon"));
        }
        let mut secret = Zeroizing::new(vec![0; settings.algorithm.secret_bytes()]);
        self.world.fill(&mut secret);
        let codes = Codes::new(settings, &secret)?;
        Ok(PendingOtp { user: user.to_owned(), issuer: issuer.to_owned(), codes })
    }

    /// Enrols a generator that shows this code now. The code is used up by it. Who calls this bounds how
    /// often it may be tried.
    ///
    /// # Errors
    ///
    /// [`FactorError::WrongCode`], [`FactorError::Invalid`] (also when the user has too many), or
    /// [`FactorError::Store`] when the user is gone.
    pub async fn confirm_otp(
        &self,
        pending: &PendingOtp,
        label: &str,
        code: &Secret,
    ) -> Result<Factor, FactorError> {
        let typed = random::typed(code).ok_or(FactorError::WrongCode)?;
        let now = self.world.now().unix;
        let counter = pending.codes.accepted(&typed, 0, now).next();
        self.enrol(pending, label, counter.ok_or(FactorError::WrongCode)?).await
    }

    /// Enrols a generator without having seen a code of it. If its holder has not read it in, they are
    /// locked out: for administrators who know.
    ///
    /// # Errors
    ///
    /// As [`Factors::confirm_otp`], but for the code.
    pub async fn enrol_unconfirmed(
        &self,
        pending: &PendingOtp,
        label: &str,
    ) -> Result<Factor, FactorError> {
        self.enrol(pending, label, 0).await
    }

    /// Finds a counter again that has run away from its server, by two codes in a row (RFC 4226 §7.4).
    /// Both are used up by it.
    ///
    /// # Errors
    ///
    /// [`FactorError::WrongCode`] when they are not within the next thousand, [`FactorError::Store`] when
    /// there is no such generator.
    pub async fn resync_hotp(
        &self,
        user: &str,
        id: i64,
        codes: [&Secret; 2],
    ) -> Result<(), FactorError> {
        let account = self.account(user).await?;
        let found = account.credentials_of(&CredentialType::Hotp).find(|c| c.id == id);
        let missing =
            || countersign_store::StoreError::NotFound { what: "factor", name: id.to_string() };
        let credential = found.ok_or_else(missing)?;
        let generator = Codes::stored(credential)
            .ok_or_else(|| FactorError::invalid("the stored generator", "cannot be read"))?;
        let [Some(first), Some(second)] = codes.map(random::typed) else {
            return Err(FactorError::WrongCode);
        };
        let mut positions = credential.counter..credential.counter.saturating_add(RESYNC);
        let found = positions
            .find(|at| generator.is(&first, *at) && generator.is(&second, at.saturating_add(1)));
        let next = found.ok_or(FactorError::WrongCode)?.saturating_add(2);
        if !self.store.advance_counter(id, next, self.world.now().unix).await? {
            return Err(FactorError::WrongCode);
        }
        Ok(())
    }

    async fn enrol(
        &self,
        pending: &PendingOtp,
        label: &str,
        counter: i64,
    ) -> Result<Factor, FactorError> {
        let mut new = NewCredential::new(pending.codes.settings.kind(), pending.codes.to_stored());
        new.label = label.to_owned();
        new.counter = counter;
        let kinds = [CredentialType::Totp, CredentialType::Hotp];
        self.add(&pending.user, &new, &kinds, limits::OTP).await
    }
}

/// A generator's codes.
#[derive(Clone)]
pub(super) struct Codes {
    settings: OtpSettings,
    totp: Totp,
}

impl Codes {
    fn new(settings: OtpSettings, secret: &[u8]) -> Result<Self, FactorError> {
        let algorithm = match settings.algorithm {
            Algorithm::Sha1 => totp_rs::Algorithm::SHA1,
            Algorithm::Sha256 => totp_rs::Algorithm::SHA256,
            Algorithm::Sha512 => totp_rs::Algorithm::SHA512,
        };
        // One position at a time: what may be early or late is decided here, beside the counter. A step of
        // one second makes the code of a position of that of a second.
        let builder = Builder::new().with_algorithm(algorithm).with_digits(settings.digits);
        let totp = builder.with_secret(secret).with_skew(0).with_step_duration(1).build();
        let totp = totp.map_err(|error| FactorError::invalid("the secret", error.to_string()))?;
        Ok(Self { settings, totp })
    }

    /// As it is stored: `$totp$sha1,6,30$BASE32`, `$hotp$sha1,6$BASE32`.
    fn to_stored(&self) -> Secret {
        let OtpSettings { moving, digits, algorithm } = self.settings;
        let algorithm = algorithm.name().to_ascii_lowercase();
        let secret = Zeroizing::new(self.totp.secret().to_base32());
        Secret::from(match moving {
            Moving::Time { period } => {
                format!("$totp${algorithm},{digits},{period}${}", secret.as_str())
            }
            Moving::Counter => format!("$hotp${algorithm},{digits}${}", secret.as_str()),
        })
    }

    /// The codes of a stored credential; `None` when it cannot be read.
    pub(super) fn stored(credential: &Credential) -> Option<Self> {
        let mut parts = credential.data.to_str()?.strip_prefix('$')?.split('$');
        let (kind, settings, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let mut settings = settings.split(',');
        let algorithm = settings.next()?.parse().ok()?;
        let digits = settings.next()?.parse().ok()?;
        let moving = match kind {
            "totp" => Moving::Time { period: settings.next()?.parse().ok()? },
            "hotp" => Moving::Counter,
            _ => return None,
        };
        let settings = OtpSettings { moving, digits, algorithm };
        settings.check().ok()?;
        if settings.kind() != credential.kind || parts.next().is_some() {
            return None;
        }
        let secret = totp_rs::Secret::try_from_base32(secret).ok()?;
        Self::new(settings, secret.as_bytes()).ok()
    }

    /// The values that the stored counter is to take for this code: one for each position, at or after the
    /// counter and near enough, that has it. By time the counter is the last step that was used; by
    /// counter it is the next position.
    pub(super) fn accepted<'a>(
        &'a self,
        typed: &'a str,
        counter: i64,
        unix: i64,
    ) -> impl Iterator<Item = i64> + 'a {
        let (positions, more) = match self.settings.moving {
            Moving::Time { period } => {
                let step = unix.div_euclid(i64::from(period));
                (step.saturating_sub(DRIFT)..=step.saturating_add(DRIFT), 0)
            }
            Moving::Counter => (counter..=counter.saturating_add(LOOK_AHEAD), 1),
        };
        positions.filter(move |at| self.is(typed, *at)).map(move |at| at.saturating_add(more))
    }

    /// Whether this is the code at that position. In constant time for codes of the right shape.
    fn is(&self, typed: &str, position: i64) -> bool {
        u64::try_from(position).is_ok_and(|position| self.totp.check(typed, position).is_some())
    }
}

/// All but unreserved characters encoded (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(moving: Moving, digits: u8, algorithm: Algorithm, secret: &[u8]) -> Codes {
        Codes::new(OtpSettings { moving, digits, algorithm }, secret).unwrap()
    }

    /// RFC 4226, appendix D.
    #[test]
    fn the_vectors_of_rfc_4226() {
        let hotp = codes(Moving::Counter, 6, Algorithm::Sha1, b"12345678901234567890");
        let expected = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (position, code) in (0..).zip(expected) {
            assert!(hotp.is(code, position), "{position}");
            assert_eq!(hotp.accepted(code, 0, 0).collect::<Vec<_>>(), [position + 1]);
        }
    }

    /// RFC 6238, appendix B.
    #[test]
    fn the_vectors_of_rfc_6238() {
        let secret = b"1234567890123456789012345678901234567890123456789012345678901234";
        for (unix, sha1, sha256, sha512) in [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000, "65353130", "77737706", "47863826"),
        ] {
            for (algorithm, code) in
                [(Algorithm::Sha1, sha1), (Algorithm::Sha256, sha256), (Algorithm::Sha512, sha512)]
            {
                let secret = &secret[..algorithm.secret_bytes()];
                let totp = codes(Moving::Time { period: 30 }, 8, algorithm, secret);
                let accepted: Vec<_> = totp.accepted(code, 0, unix).collect();
                assert_eq!(accepted, [unix / 30], "{unix} {algorithm:?}");
            }
        }
    }

    #[test]
    fn one_step_early_or_late_and_no_more() {
        let totp = codes(Moving::Time { period: 30 }, 8, Algorithm::Sha1, b"12345678901234567890");
        // The code of the step from 1111111080 to 1111111109.
        for (unix, right) in [
            (1_111_111_049, false),
            (1_111_111_050, true),
            (1_111_111_080, true),
            (1_111_111_109, true),
            (1_111_111_139, true),
            (1_111_111_140, false),
        ] {
            assert_eq!(totp.accepted("07081804", 0, unix).next().is_some(), right, "{unix}");
        }
        // Before 1970 there is no code, and no panic.
        assert_eq!(totp.accepted("07081804", 0, i64::MIN).next(), None);
        assert_eq!(totp.accepted("07081804", 0, i64::MAX).next(), None);
    }

    #[test]
    fn ten_counts_ahead_and_none_back() {
        let hotp = codes(Moving::Counter, 6, Algorithm::Sha1, b"12345678901234567890");
        assert_eq!(hotp.accepted("520489", 0, 0).next(), Some(10));
        // Position 10 is 403154, 11 is 481090.
        assert_eq!(hotp.accepted("403154", 0, 0).next(), Some(11));
        assert_eq!(hotp.accepted("481090", 0, 0).next(), None);
        assert_eq!(hotp.accepted("481090", 1, 0).next(), Some(12));
        assert_eq!(hotp.accepted("755224", 1, 0).next(), None);
        assert_eq!(hotp.accepted("755224", i64::MAX, 0).next(), None);
    }

    #[test]
    fn stored_and_read_again() {
        for settings in [
            OtpSettings::default(),
            OtpSettings::counted(),
            OtpSettings {
                moving: Moving::Time { period: 60 },
                digits: 8,
                algorithm: Algorithm::Sha512,
            },
        ] {
            let secret = vec![7; settings.algorithm.secret_bytes()];
            let codes = Codes::new(settings, &secret).unwrap();
            let credential = |kind: CredentialType, data: Secret| Credential {
                id: 1,
                kind,
                label: String::new(),
                data,
                scope: None,
                lookup: None,
                created: 0,
                expires: None,
                last_used: None,
                counter: 0,
            };
            let stored = credential(settings.kind(), codes.to_stored());
            let read = Codes::stored(&stored).unwrap();
            assert_eq!((read.settings, read.totp.secret()), (settings, codes.totp.secret()));
            let swapped = if settings.kind() == CredentialType::Totp {
                CredentialType::Hotp
            } else {
                CredentialType::Totp
            };
            assert!(Codes::stored(&credential(swapped, codes.to_stored())).is_none());
            for broken in ["", "$", "$totp$", "$totp$sha1,6,30$", "$totp$sha1,9,30$MFRGG", "x"] {
                let broken = credential(settings.kind(), Secret::from(broken));
                assert!(Codes::stored(&broken).is_none());
            }
        }
    }

    #[test]
    fn the_address_is_one_that_apps_read() {
        let codes = codes(Moving::Time { period: 30 }, 6, Algorithm::Sha1, b"12345678901234567890");
        let pending =
            PendingOtp { user: "ada@example.org".into(), issuer: "Example Inc".into(), codes };
        assert_eq!(
            pending.uri().to_str(),
            Some(
                "otpauth://totp/Example%20Inc:ada%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
                 &issuer=Example%20Inc&algorithm=SHA1&digits=6&period=30"
            )
        );
        assert_eq!(pending.base32().to_str(), Some("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"));
        assert!(!format!("{pending:?}").contains("GEZD"));
    }
}
