//! SHA-256, as keys and bodies are compared by.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, Digest, SHA256, SHA256_OUTPUT_LEN, digest};

/// A SHA-256.
pub(super) type Sha256 = [u8; SHA256_OUTPUT_LEN];

/// Takes the SHA-256 of bytes that come piece by piece.
pub(super) struct Hasher(Context);

// === impl Hasher ===

impl Hasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Sha256 {
        read(&self.0.finish())
    }
}

/// The SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> Sha256 {
    read(&digest(&SHA256, bytes))
}

fn read(digest: &Digest) -> Sha256 {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    // A SHA-256 has exactly this length.
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// `hash` in hexadecimal.
pub(super) fn hex(hash: &Sha256) -> String {
    hash.iter().fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first eight bytes of `hash`, big end first.
pub(super) fn first_word(hash: &Sha256) -> u64 {
    hash.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_fips_180_4() {
        let hash = sha256(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&hash), text);
        assert_eq!(first_word(&hash), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn pieces_have_the_hash_of_the_whole() {
        let mut hasher = Hasher::new();
        for piece in ["a", "", "bc"] {
            hasher.add(piece.as_bytes());
        }
        assert_eq!(hasher.finish(), sha256(b"abc"));
    }
}
