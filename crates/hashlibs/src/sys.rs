//! The two libraries' functions, as their headers declare them: `sodium/crypto_pwhash_argon2id.h`,
//! `sodium/core.h` and `sodium/version.h` of libsodium 1.0, and `crypt.h` of libxcrypt 4.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_ulonglong, c_void};
use std::sync::OnceLock;

use libloading::Library;
use zeroize::{Zeroize, Zeroizing};

use super::Argon2id;

/// `crypto_pwhash_argon2id`: tag, its length, password, its length, salt, passes, bytes of memory, algorithm.
type SodiumArgon2id = unsafe extern "C" fn(
    *mut c_uchar,
    c_ulonglong,
    *const c_char,
    c_ulonglong,
    *const c_uchar,
    c_ulonglong,
    usize,
    c_int,
) -> c_int;

/// `crypt_rn`: password, setting, memory, its size.
type CryptRn =
    unsafe extern "C" fn(*const c_char, *const c_char, *mut c_void, c_int) -> *mut c_char;

/// libsodium's number of argon2id, version 19.
const ARGON2ID13: c_int = 2;
/// A hash that libsodium is tried with; the tests compute it by another implementation.
pub(crate) const KNOWN: Argon2id<'_> =
    Argon2id { memory_kib: 8, passes: 1, salt: b"0123456789abcdef" };
pub(crate) const KNOWN_PASSWORD: &[u8] = b"password";
pub(crate) const KNOWN_TAG: [u8; 16] = [
    0x83, 0x94, 0x7c, 0xb2, 0x66, 0x35, 0xe8, 0xb2, 0x50, 0x0b, 0x34, 0x89, 0x25, 0xb2, 0x20, 0xdc,
];
/// `sizeof (struct crypt_data)`, and alignment for anything that is in it.
const CRYPT_DATA: usize = 32_768;

pub(crate) struct Sodium {
    argon2id: SodiumArgon2id,
    pub(crate) version: String,
}

pub(crate) struct Xcrypt {
    crypt_rn: CryptRn,
}

/// libsodium, opened at the first call.
pub(crate) fn sodium() -> Option<&'static Sodium> {
    static SODIUM: OnceLock<Option<Sodium>> = OnceLock::new();
    SODIUM.get_or_init(Sodium::open).as_ref()
}

/// libxcrypt, opened at the first call.
pub(crate) fn xcrypt() -> Option<&'static Xcrypt> {
    static XCRYPT: OnceLock<Option<Xcrypt>> = OnceLock::new();
    XCRYPT.get_or_init(Xcrypt::open).as_ref()
}

impl Sodium {
    fn open() -> Option<Self> {
        let library = open(&["libsodium.so.26", "libsodium.so.23"])?;
        // SAFETY: libsodium declares `int sodium_init(void)` and `const char *sodium_version_string(void)`,
        // and `SodiumArgon2id` as above. The pointers do not outlive the library, which is never closed.
        let (init, version, argon2id) = unsafe {
            (
                *library.get::<unsafe extern "C" fn() -> c_int>(c"sodium_init").ok()?,
                *library
                    .get::<unsafe extern "C" fn() -> *const c_char>(c"sodium_version_string")
                    .ok()?,
                *library.get::<SodiumArgon2id>(c"crypto_pwhash_argon2id").ok()?,
            )
        };
        // SAFETY: it may be called at any time and from any thread, before every other function. 1 says that
        // somebody else in this process has.
        if unsafe { init() } < 0 {
            return None;
        }
        // SAFETY: it takes nothing and returns a NUL-terminated string that lives as long as the library.
        let version = unsafe { CStr::from_ptr(version()) }.to_string_lossy().into_owned();
        std::mem::forget(library);
        let sodium = Self { argon2id, version };
        sodium.agrees().then_some(sodium)
    }

    /// Whether it computes what everybody else computes.
    fn agrees(&self) -> bool {
        let mut tag = [0; 16];
        self.argon2id(KNOWN, KNOWN_PASSWORD, &mut tag) && tag == KNOWN_TAG
    }

    pub(crate) fn argon2id(&self, of: Argon2id<'_>, password: &[u8], tag: &mut [u8]) -> bool {
        let Some(bytes) = (of.memory_kib as usize).checked_mul(1024) else { return false };
        // Its own limits. It refuses what is beyond; here nothing is asked that it might read otherwise.
        let fits = of.memory_kib >= 8 && of.passes >= 1 && (16..=1024).contains(&tag.len());
        if !fits || password.len() > u32::MAX as usize {
            return false;
        }
        // SAFETY: `tag` and `password` are as long as said, and the salt has the 16 bytes that
        // `crypto_pwhash_argon2id_SALTBYTES` asks for. It writes to `tag` only, and keeps no pointer. Its
        // memory is its own, for each call. It may be called from many threads once `sodium_init` returned.
        let result = unsafe {
            (self.argon2id)(
                tag.as_mut_ptr(),
                tag.len() as c_ulonglong,
                password.as_ptr().cast(),
                password.len() as c_ulonglong,
                of.salt.as_ptr(),
                c_ulonglong::from(of.passes),
                bytes,
                ARGON2ID13,
            )
        };
        result == 0
    }
}

/// As large as `struct crypt_data` and aligned as malloc would align it.
#[repr(C, align(16))]
struct CryptData([u8; CRYPT_DATA]);

impl Xcrypt {
    fn open() -> Option<Self> {
        // `.so.1` is Debian's, with glibc's old functions in it; `.so.2` is the same without them.
        let library = open(&["libcrypt.so.1", "libcrypt.so.2"])?;
        // SAFETY: libxcrypt declares it so; glibc's own libcrypt, which was replaced, did not have it. The
        // pointer does not outlive the library, which is never closed.
        let crypt_rn = unsafe { *library.get::<CryptRn>(c"crypt_rn").ok()? };
        std::mem::forget(library);
        let xcrypt = Self { crypt_rn };
        xcrypt.agrees().then_some(xcrypt)
    }

    /// From the test suite of crypt_blowfish.
    fn agrees(&self) -> bool {
        const BLOWFISH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        self.crypt(b"U*U", BLOWFISH).is_some_and(|hash| hash.as_str() == BLOWFISH)
    }

    pub(crate) fn crypt(&self, password: &[u8], setting: &str) -> Option<Zeroizing<String>> {
        // A vector with room for the end mark: one that has to grow leaves a copy behind.
        let mut phrase = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        phrase.extend_from_slice(password);
        phrase.push(0);
        let phrase = CStr::from_bytes_with_nul(&phrase).ok()?;
        let setting = CString::new(setting).ok()?;
        let mut data = Box::new(CryptData([0; CRYPT_DATA]));
        // SAFETY: both strings end with a NUL. `data` has `sizeof (struct crypt_data)` zeroed bytes, which is
        // what it asks for, and lives on; it writes nowhere else and keeps no pointer. It may be called from
        // many threads with memory of their own.
        let result = unsafe {
            (self.crypt_rn)(
                phrase.as_ptr(),
                setting.as_ptr(),
                (&raw mut *data).cast(),
                CRYPT_DATA as c_int,
            )
        };
        let hash = (!result.is_null()).then(|| {
            // SAFETY: unless it is null, it points to a NUL-terminated string inside of `data`.
            unsafe { CStr::from_ptr(result) }.to_str().map(|hash| Zeroizing::new(hash.to_owned()))
        });
        let hash = hash.and_then(Result::ok).filter(|hash| !hash.starts_with('*'));
        data.0.zeroize();
        hash
    }
}

/// The first of these that is there. Opening one runs its initialisers: they are the system's libraries, found
/// where the system's own programs find them.
fn open(names: &[&str]) -> Option<Library> {
    names.iter().find_map(|name| {
        // SAFETY: neither library's initialisers have conditions; both are made to be opened in any program.
        unsafe { Library::new(*name) }.ok()
    })
}
