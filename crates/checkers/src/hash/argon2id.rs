//! ARGON2ID and ARGON2I (RFC 9106), as PHC strings: `$argon2id$v=19$m=19456,t=2,p=1$salt$tag`.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe, cap};
use super::scheme::{Data, Family, Parsed, base64};
use super::{Cost, HashError, Memory};

/// Tags shorter than this could be met by chance; longer than the other end only cost memory.
const TAG: std::ops::RangeInclusive<usize> = 16..=64;
const SALT: std::ops::RangeInclusive<usize> = 8..=64;

struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt_len: u8,
    /// The salt, then the tag: one allocation, for there may be a hundred thousand of these.
    salt_and_tag: Zeroizing<Box<[u8]>>,
}

/// The one place that computes argon2: by libsodium where the system has it and the parameters are what it
/// takes, otherwise by RustCrypto in memory that is kept. `docs/decisions/0003-argon2id.md` has the figures.
fn derive(
    argon2: &Argon2Hash,
    password: &[u8],
    salt: &[u8],
    memory: &mut Memory,
    tag: &mut [u8],
) -> Result<(), HashError> {
    let usual = matches!(
        (argon2.algorithm, argon2.version, argon2.lanes),
        (Algorithm::Argon2id, Version::V0x13, 1)
    );
    if let (true, Ok(salt)) = (usual, salt.try_into()) {
        let (memory_kib, passes) = (argon2.memory_kib, argon2.passes);
        let parameters = countersign_hashlibs::Argon2id { memory_kib, passes, salt };
        if countersign_hashlibs::argon2id(parameters, password, tag) {
            return Ok(());
        }
    }
    let params = Params::new(argon2.memory_kib, argon2.passes, argon2.lanes, None)
        .map_err(|_| unusable("m must be at least 8 × p, and t and p at least 1"))?;
    let blocks = memory.blocks(params.block_count())?;
    Argon2::new(argon2.algorithm, argon2.version, params)
        .hash_password_into_with_memory(password, salt, tag, blocks)
        .map_err(|_| unusable("salt, password or tag has an impossible length"))
}

fn unusable(reason: &'static str) -> HashError {
    HashError::Malformed { scheme: "ARGON2ID", reason }
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse_as(Algorithm::Argon2id, "argon2id", data, accept)
}

pub(super) fn parse_i(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse_as(Algorithm::Argon2i, "argon2i", data, accept)
}

fn parse_as(algorithm: Algorithm, ident: &str, data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let mut fields = text.split('$');
    if fields.next() != Some("") || fields.next() != Some(ident) {
        return Err(data.malformed("expected $argon2id$… or $argon2i$…, as the scheme says"));
    }
    let mut field = fields.next().unwrap_or("");
    // The first publication of argon2 wrote no version.
    let mut version = Version::V0x10;
    if let Some(written) = field.strip_prefix("v=") {
        version = match written {
            "16" => Version::V0x10,
            "19" => Version::V0x13,
            _ => return Err(data.malformed("expected v=16 or v=19")),
        };
        field = fields.next().unwrap_or("");
    }
    let [memory_kib, passes, lanes] = parameters(field)
        .ok_or_else(|| data.malformed("expected m=…,t=…,p=… (keyid and data are not supported)"))?;
    let (Some(salt), Some(tag), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(data.malformed("expected $salt$tag after the parameters"));
    };
    let decode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(text)
            .map_err(|_| data.malformed("salt and tag must be base64 without padding"))
    };
    let (mut salt, tag) = (decode(salt)?, decode(tag)?);
    if !SALT.contains(&salt.len()) || !TAG.contains(&tag.len()) {
        return Err(data.malformed("expected a salt of 8 to 64 bytes and a tag of 16 to 64"));
    }

    let limits = &accept.limits;
    let (m, t, p) = (memory_kib.into(), passes.into(), lanes.into());
    cap(data.scheme, "m (KiB)", m, limits.argon2_memory_kib.into())?;
    cap(data.scheme, "t", t, limits.argon2_passes.into())?;
    cap(data.scheme, "p", p, limits.argon2_lanes.into())?;
    cap(data.scheme, "m × t (KiB)", m * t, limits.argon2_work_kib)?;
    Params::new(memory_kib, passes, lanes, None)
        .map_err(|_| data.malformed("m must be at least 8 × p, and t and p at least 1"))?;

    let salt_len = salt.len() as u8;
    salt.extend_from_slice(&tag);
    Ok(Arc::new(Argon2Hash {
        algorithm,
        version,
        memory_kib,
        passes,
        lanes,
        salt_len,
        salt_and_tag: Zeroizing::new(salt.into_boxed_slice()),
    }))
}

/// `m=…,t=…,p=…`, in any order, each once, nothing else.
fn parameters(field: &str) -> Option<[u32; 3]> {
    let mut found = [None; 3];
    for parameter in field.split(',') {
        let (name, value) = parameter.split_once('=')?;
        let slot = &mut found[["m", "t", "p"].iter().position(|n| *n == name)?];
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        if slot.is_some() || !digits {
            return None;
        }
        // Too large for the type is above any limit; let the limit be named.
        *slot = Some(value.parse().unwrap_or(u32::MAX));
    }
    let [m, t, p] = found;
    Some([m?, t?, p?])
}

pub(super) fn create(
    [memory_kib, passes, lanes]: [u32; 3],
    password: Option<&[u8]>,
    salt: [u8; 16],
    memory: &mut Memory,
) -> Parsed {
    // Before anything is made: nothing is computed for a decoy, and it would fail at every use.
    Params::new(memory_kib, passes, lanes, None).map_err(|_| HashError::Malformed {
        scheme: "ARGON2ID",
        reason: "m must be at least 8 × p, and t and p at least 1",
    })?;
    let mut hash = Argon2Hash {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        memory_kib,
        passes,
        lanes,
        salt_len: 16,
        salt_and_tag: Zeroizing::new(Box::new([])),
    };
    let mut bytes = vec![0; 48];
    bytes[..16].copy_from_slice(&salt);
    match password {
        Some(password) => derive(&hash, password, &salt, memory, &mut bytes[16..])?,
        None => bytes[16..].copy_from_slice(&super::unreachable_tag(&salt)[..32]),
    }
    hash.salt_and_tag = Zeroizing::new(bytes.into_boxed_slice());
    Ok(Arc::new(hash))
}

impl Argon2Hash {
    fn salt(&self) -> &[u8] {
        &self.salt_and_tag[..self.salt_len.into()]
    }

    fn tag(&self) -> &[u8] {
        &self.salt_and_tag[self.salt_len.into()..]
    }
}

impl Family for Argon2Hash {
    fn scheme(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Argon2i => "ARGON2I",
            _ => "ARGON2ID",
        }
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], memory: &mut Memory) -> Result<bool, HashError> {
        let mut buffer = [0; *TAG.end()];
        let tag = &mut buffer[..self.tag().len()];
        derive(self, password, self.salt(), memory, tag)?;
        Ok(tag.ct_eq(self.tag()).into())
    }

    fn data(&self) -> String {
        let version = match self.version {
            Version::V0x10 => 16,
            Version::V0x13 => 19,
        };
        format!(
            "${}$v={version}$m={},t={},p={}${}${}",
            self.algorithm,
            self.memory_kib,
            self.passes,
            self.lanes,
            base64(self.salt()),
            base64(self.tag())
        )
    }

    fn each_part(&self, part: &mut dyn FnMut(&[u8])) {
        let mut numbers = [0; 16];
        let all = [u32::from(self.version), self.memory_kib, self.passes, self.lanes];
        for (place, number) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(all) {
            *place = number.to_le_bytes();
        }
        part(&numbers);
        part(self.salt());
        part(self.tag());
    }

    fn weaker_than(&self, recipe: &Recipe) -> bool {
        let Recipe::Argon2id { memory_kib, passes, .. } = *recipe else {
            return true;
        };
        // More memory makes up for fewer passes, and never the other way round: memory is what a
        // guesser's hardware has least of.
        let work = |m: u32, t: u32| u64::from(m) * u64::from(t);
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || self.memory_kib < memory_kib
            || work(self.memory_kib, self.passes) < work(memory_kib, passes)
            || self.salt_len < 16
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Hash};
    use super::*;
    use countersign::Secret;

    fn parse(text: &str) -> Result<Hash, HashError> {
        Hash::parse(text, &Accept::default())
    }

    /// From the test suite of the reference implementation (phc-winner-argon2, `test.c`).
    const PUBLISHED: [(&str, &str); 4] = [
        (
            "password",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ),
        (
            "password",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        ),
        (
            "differentpassword",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94",
        ),
        (
            "password",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
        ),
    ];

    #[test]
    fn published_vectors() {
        for (password, text) in PUBLISHED {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from(password)), "{text}");
            assert!(!hash.verify(&Secret::from("passwore")), "{text}");
            assert!(hash.expose_text().ends_with(text), "{text}");
        }
    }

    #[test]
    fn limits_are_named_before_anything_is_computed() {
        let refused = |params: &str| {
            let text = format!(
                "$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
            );
            parse(&text).unwrap_err().to_string()
        };
        assert!(
            refused("m=1048577,t=1,p=1")
                .contains("m (KiB) = 1048577 is above the limit of 1048576")
        );
        assert!(refused("m=99999999999999,t=1,p=1").contains("m (KiB)"));
        assert!(refused("m=64,t=33,p=1").contains("t = 33"));
        assert!(refused("m=256,t=1,p=17").contains("p = 17"));
        assert!(refused("m=1048576,t=5,p=1").contains("m × t (KiB)"));
        assert!(refused("m=8,t=1,p=2").contains("8 × p"));
        assert!(refused("m=8,t=0,p=1").contains("at least 1"));
        assert!(refused("m=8,t=1,p=1,m=9").contains("expected m="));
        assert!(refused("m=8,t=1,p=1,keyid=aa").contains("keyid"));
        assert!(refused("m=+8,t=1,p=1").contains("expected m="));
    }

    #[test]
    fn short_salts_and_tags_are_refused() {
        for text in [
            "$argon2id$v=19$m=256,t=2,p=1$c2FsdA$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EA",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
        ] {
            assert!(matches!(parse(text), Err(HashError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn weaker_is_told_from_stronger() {
        let weaker = |m, t, than| {
            let hash = create([m, t, 1], None, [1; 16], &mut Memory::default()).unwrap();
            hash.weaker_than(&than)
        };
        let recipe = Recipe::default();
        assert!(!weaker(19_456, 2, recipe));
        assert!(!weaker(65_536, 1, recipe));
        assert!(weaker(19_455, 3, recipe));
        assert!(weaker(19_456, 1, recipe));
        assert!(weaker(19_456, 2, Recipe::Bcrypt { cost: 12 }));
    }
}
