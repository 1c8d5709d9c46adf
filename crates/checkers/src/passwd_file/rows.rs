//! What is kept of a password file: a row a user.

use zeroize::Zeroizing;

use crate::hash::Hash;

/// What is known of users, one after the other and each in one piece: with a hundred thousand of them, what a login
/// costs is how often it goes to another place in memory.
#[derive(Default)]
pub(super) struct Rows {
    /// None of them ever grows beyond its first allocation: what a growing vector leaves behind is not wiped.
    pieces: Vec<Zeroizing<Vec<u8>>>,
    pub(super) hashes: Vec<Hash>,
}

/// One user.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) line: u32,
    pub(super) name: &'a [u8],
    pub(super) password: Kept<'a>,
    /// What the line has after the password.
    pub(super) rest: &'a [u8],
}

/// What is kept of a password.
#[derive(Clone, Copy)]
pub(super) enum Kept<'a> {
    /// There is none, or none that can be used.
    None,
    /// All of it, and its keyed hash.
    Readable { tag: u64, password: &'a [u8] },
    /// Its hash, by place.
    Hash(usize),
}

impl Rows {
    /// Several times as large as the longest row.
    const PIECE: usize = 1 << 18;
    /// The line, three lengths, the kind, and a word: the tag of a readable password, or the place of a hash. Then
    /// come the name, the password if it is readable, and the rest.
    const HEAD: usize = 4 + 3 * 2 + 1 + 8;
    const NONE: u8 = 0;
    const READABLE: u8 = 1;
    const HASH: u8 = 2;

    /// Adds a row and tells where it is, if there is room for it. Its lengths have been measured before.
    pub(super) fn add(&mut self, row: &Row<'_>) -> Option<u32> {
        let (kind, word, password) = match row.password {
            Kept::None => (Self::NONE, 0, &[][..]),
            Kept::Readable { tag, password } => (Self::READABLE, tag, password),
            Kept::Hash(place) => (Self::HASH, place as u64, &[][..]),
        };
        let texts = [row.name, password, row.rest];
        let length = Self::HEAD + texts.iter().map(|text| text.len()).sum::<usize>();
        if self.pieces.last().is_none_or(|piece| piece.len() + length > Self::PIECE) {
            self.pieces.push(Zeroizing::new(Vec::with_capacity(Self::PIECE)));
        }
        let before = (self.pieces.len() - 1) * Self::PIECE;
        let piece = self.pieces.last_mut()?;
        let at = u32::try_from(before + piece.len()).ok()?;
        piece.extend_from_slice(&row.line.to_le_bytes());
        for text in texts {
            piece.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
        }
        piece.push(kind);
        piece.extend_from_slice(&word.to_le_bytes());
        for text in texts {
            piece.extend_from_slice(text);
        }
        Some(at)
    }

    pub(super) fn row(&self, at: u32) -> Row<'_> {
        let at = at as usize;
        let piece = &self.pieces[at / Self::PIECE][at % Self::PIECE..];
        let (head, texts) = piece.split_at(Self::HEAD);
        let number = |from: usize| usize::from(u16::from_le_bytes([head[from], head[from + 1]]));
        let word = |from: usize| {
            let bytes: [u8; 4] = std::array::from_fn(|index| head[from + index]);
            u32::from_le_bytes(bytes)
        };
        let (name, texts) = texts.split_at(number(4));
        let (password, texts) = texts.split_at(number(6));
        let value = u64::from(word(11)) | u64::from(word(15)) << 32;
        let password = match head[10] {
            Self::READABLE => Kept::Readable { tag: value, password },
            Self::HASH => Kept::Hash(value as usize),
            _ => Kept::None,
        };
        Row { line: word(0), name, password, rest: &texts[..number(8)] }
    }
}
