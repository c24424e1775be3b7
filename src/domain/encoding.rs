//! How a text goes over the air: its encoding, and how many segments it takes (3GPP TS 23.038 and
//! 23.040).
//!
//! A text whose characters are all in the GSM 7-bit default alphabet or its extension table is sent
//! as septets, every other one as UCS-2, in units of UTF-16. What is too long for one short message
//! is sent in parts, each of which begins with a header of 6 bytes. A part never ends between an
//! escape and what it escapes, nor within a surrogate pair.

mod smart;

use serde::{Deserialize, Serialize};

pub use self::smart::smart;

/// How a text is encoded.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The GSM 7-bit default alphabet with its extension table; the unit is a septet.
    Gsm7,
    /// Two bytes a unit, and two units for characters beyond the first 65,536.
    Ucs2,
}

/// What a text comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Its length, in units of the encoding.
    pub units: u64,
    /// The short messages it takes; an empty text takes one.
    pub segments: u64,
}

/// Parts that are filled one after the other, as if there will be several.
struct Parts {
    encoding: Encoding,
    units: u64,
    count: u64,
    /// The units that the last part has room for.
    room: u64,
}

/// The default alphabet in the order of its codes (3GPP TS 23.038, 6.2.1), but for the escape, 0x1B.
const DEFAULT_ALPHABET: [char; 127] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', 'Δ', '_',
    'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', 'Æ', 'æ', 'ß', 'É', ' ', '!', '"', '#', '¤', '%',
    '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', '0', '1', '2', '3', '4', '5', '6', '7', '8',
    '9', ':', ';', '<', '=', '>', '?', '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K',
    'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü',
    '§', '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q',
    'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table (6.2.1.1), but for the euro sign, which is beyond [`SEPTETS`].
const EXTENSION: [char; 9] = ['\u{c}', '^', '{', '}', '\\', '[', '~', ']', '|'];

/// The septets of each character up to U+03FF; 0 for those that GSM-7 doesn't have.
static SEPTETS: [u8; 0x400] = septets_by_character();

// === impl Encoding ===

impl Encoding {
    /// Both, the shorter one first.
    pub const ALL: [Self; 2] = [Self::Gsm7, Self::Ucs2];

    /// The word clients read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::Ucs2 => "ucs2",
        }
    }

    /// The longest text that is one segment, in units: 140 bytes.
    #[must_use]
    pub fn single_max(self) -> u64 {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// The most units of a text in one of several segments: 134 bytes.
    #[must_use]
    pub fn part_max(self) -> u64 {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }
}

// === impl Size ===

impl Size {
    /// What `text` comes to. It is read once, and nothing is allocated.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let (mut gsm7, mut read, mut rest) = (Parts::new(Encoding::Gsm7, 0), 0, text.chars());
        while let Some(character) = rest.next() {
            match septets(character) {
                0 => {
                    // What was read so far is in GSM-7, and each such character is one unit here.
                    let mut ucs2 = Parts::new(Encoding::Ucs2, read);
                    ucs2.add(utf16_units(character));
                    rest.for_each(|character| ucs2.add(utf16_units(character)));
                    return ucs2.size();
                }
                septets => gsm7.add(u64::from(septets)),
            }
            read += 1;
        }
        gsm7.size()
    }
}

// === impl Parts ===

impl Parts {
    /// Parts with so many units in them, none of which belong together.
    fn new(encoding: Encoding, units: u64) -> Self {
        let count = units.div_ceil(encoding.part_max()).max(1);
        Self { encoding, units, count, room: count * encoding.part_max() - units }
    }

    /// Adds a character of so many units, which stay together.
    fn add(&mut self, units: u64) {
        self.units += units;
        if self.room < units {
            self.count += 1;
            self.room = self.encoding.part_max();
        }
        self.room -= units;
    }

    fn size(self) -> Size {
        let Self { encoding, units, count, .. } = self;
        Size { encoding, units, segments: if units <= encoding.single_max() { 1 } else { count } }
    }
}

/// How many septets a character takes; 0 if GSM-7 doesn't have it.
fn septets(character: char) -> u8 {
    match SEPTETS.get(character as usize) {
        Some(septets) => *septets,
        None if character == '€' => 2,
        None => 0,
    }
}

fn utf16_units(character: char) -> u64 {
    if u32::from(character) < 0x1_0000 { 1 } else { 2 }
}

const fn septets_by_character() -> [u8; 0x400] {
    let mut septets = [0; 0x400];
    let mut nth = 0;
    while nth < DEFAULT_ALPHABET.len() {
        septets[DEFAULT_ALPHABET[nth] as usize] = 1;
        nth += 1;
    }
    nth = 0;
    while nth < EXTENSION.len() {
        septets[EXTENSION[nth] as usize] = 2;
        nth += 1;
    }
    septets
}

#[cfg(test)]
mod tests;
