//! argon2's working memory, kept between hashes.

use std::fmt;

use argon2::Block;
use zeroize::Zeroize;

use super::HashError;

/// More than this is given back after use: one costly hash must not make every thread keep a gigabyte.
const KEEP_BLOCKS: usize = 64 * 1024;

/// Working memory of one thread. Empty until a hash needs it, then as large as the largest hash so
/// far, up to 64 MiB; wiped when dropped or by [`Memory::wipe`].
///
/// Kept, it saves the page faults of 19 MiB a hash.
#[derive(Default)]
pub struct Memory {
    blocks: Vec<Block>,
    /// How many blocks, from the front, may hold something.
    dirty: usize,
}

impl Memory {
    /// At least `count` blocks of 1 KiB, with anything in them.
    pub(super) fn blocks(&mut self, count: usize) -> Result<&mut [Block], HashError> {
        let more = count.saturating_sub(self.blocks.len());
        let refused = |_| HashError::OutOfMemory { kib: count as u64 };
        self.blocks.try_reserve_exact(more).map_err(refused)?;
        self.blocks.resize(self.blocks.len() + more, Block::new());
        self.dirty = self.dirty.max(count);
        Ok(&mut self.blocks[..count])
    }

    /// Overwrites what the last hash left. The first blocks after a single pass are a quick digest of
    /// the password: whoever reads them guesses without paying for argon2.
    pub fn wipe(&mut self) {
        self.blocks[..self.dirty].iter_mut().for_each(Zeroize::zeroize);
        self.dirty = 0;
    }

    /// Gives back what is more than usual.
    pub(super) fn shrink(&mut self) {
        if self.blocks.len() > KEEP_BLOCKS {
            self.wipe();
            self.blocks = Vec::new();
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} KiB)", self.blocks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_wipes_and_gives_back() {
        let mut memory = Memory::default();
        memory.blocks(4).unwrap()[3].as_mut()[0] = 7;
        assert_eq!(memory.blocks(2).unwrap().len(), 2);
        assert_eq!(memory.blocks(4).unwrap()[3].as_ref()[0], 7);
        memory.wipe();
        assert_eq!(memory.blocks(4).unwrap()[3].as_ref()[0], 0);
        memory.shrink();
        assert_eq!(memory.blocks.len(), 4);
        memory.blocks(KEEP_BLOCKS + 1).unwrap();
        memory.shrink();
        assert_eq!(memory.blocks.capacity(), 0);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let error = Memory::default().blocks(usize::MAX / 2048).unwrap_err();
        assert!(matches!(error, HashError::OutOfMemory { .. }));
    }
}
