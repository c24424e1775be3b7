//! Which provider a try left through: the batch's own, or the one that stood in for it.
//!
//! It is kept with messages that wait for another try, so it is a number and no name. A message that may
//! have been accepted is bound to where that was: no other provider knows its idempotency key.

use serde::{Deserialize, Serialize};

/// See the module. The default is the batch's own provider, and is stored as one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Through(u16);

// === impl Through ===

impl Through {
    /// The batch's own provider.
    pub const OWN: Self = Self(0);

    /// The provider of this name, standing in for another. The same name gives the same number in every
    /// version; two names of one configuration have two with all but certainty.
    #[must_use]
    pub fn of(name: &str) -> Self {
        // FNV-1a, 32 bits, folded (http://www.isthe.com/chongo/tech/comp/fnv/).
        let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let [a, b, c, d] = name.bytes().fold(0x811c_9dc5, fold).to_be_bytes();
        Self(u16::from_be_bytes([a ^ c, b ^ d]).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_one_number_and_never_the_own_providers() {
        assert_eq!(Through::of("second"), Through::of("second"));
        assert_ne!(Through::of("second"), Through::of("third"));
        for index in 0..100_000 {
            assert_ne!(Through::of(&index.to_string()), Through::OWN);
        }
        // Stored, so it must stay what it is.
        assert_eq!(Through::of(""), Through(0x1cd9));
    }

    #[test]
    fn the_own_provider_costs_a_byte() {
        assert_eq!(postcard::to_allocvec(&Through::OWN).unwrap(), [0]);
    }
}
