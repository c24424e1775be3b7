//! Characters that look alike in GSM-7: quotation marks, dashes, spaces and such, which word
//! processors put in, and each of which makes a text UCS-2.
//!
//! The replacements follow the list that Twilio publishes for its Smart Encoding, but for these:
//!
//! - A text that would be UCS-2 all the same is left as it is: nothing is won by changing it.
//! - Combining characters are not replaced. They belong to the letter before them, so that of "ã" in
//!   its decomposed form "a~" would be left.
//! - A space of any width, and a tab, is one space, not two or seven.
//! - All full-width forms of ASCII are replaced, small letters too.

use std::borrow::Cow;

use super::septets;

/// What full-width forms stand for, from U+FF01.
const ASCII: &str = "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ\
                     [\\]^_'abcdefghijklmnopqrstuvwxyz{|}~";

/// Every other replacement, and the characters it stands for.
const LOOK_ALIKES: [(&str, &str); 61] = [
    // Quotation marks.
    ("\"", "«»\u{201c}\u{201d}\u{201e}\u{201f}ʺˮ❝❞〝〞"),
    ("'", "`´\u{2018}\u{2019}\u{201b}❛❜ʹʻʼʽˈˊˋ\u{fe10}\u{fe11}"),
    ("<", "‹\u{fe64}"),
    (">", "›\u{fe65}"),
    // Spaces, and what isn't seen at all.
    (" ", "\t\u{a0}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{80}\u{8d}\u{90}\u{9b}\u{9f}"),
    (
        " ",
        "\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}",
    ),
    ("", "\u{200b}\u{200c}\u{2060}\u{feff}\0\u{3}\u{4}\u{10}\u{11}\u{12}\u{13}\u{14}\u{17}\u{19}"),
    // Punctuation.
    ("-", "\u{2010}\u{2013}\u{2014}\u{2015}•\u{2043}\u{23bc}\u{23bd}\u{fe63}"),
    ("...", "…"),
    ("_", "\u{2017}"),
    ("!!", "‼"),
    ("!", "ǃ\u{fe15}\u{fe57}"),
    ("?", "\u{fe16}\u{fe56}"),
    (",", "\u{201a}\u{3001}\u{fe50}\u{fe51}\u{ff64}"),
    (".", "\u{3002}\u{fe52}\u{ff61}"),
    (":", "ː˸\u{2982}\u{a789}\u{fe13}"),
    (";", "\u{204f}\u{fe14}\u{fe54}"),
    ("(", "❨❪\u{27ee}\u{2985}\u{fe59}"),
    (")", "❩❫\u{27ef}\u{2986}\u{fe5a}"),
    ("{", "❴\u{fe5b}"),
    ("}", "❵\u{fe5c}"),
    // Signs.
    ("1/4", "¼"),
    ("1/2", "½"),
    ("3/4", "¾"),
    ("/", "÷\u{2044}\u{2215}\u{29f8}"),
    ("\\", "\u{29f5}\u{29f9}\u{fe68}"),
    ("|", "\u{2223}\u{23b8}\u{23b9}\u{23d0}\u{239c}\u{239f}"),
    ("*", "\u{204e}\u{2217}\u{229b}✢✣✤✥✱✲✳✺✻✼✽❃❉❊❋\u{29c6}\u{fe61}"),
    ("+", "˖\u{fe62}"),
    ("=", "\u{a78a}\u{fe66}"),
    ("~", "\u{2dc}˷\u{223c}"),
    ("^", "ˆ"),
    ("#", "\u{fe5f}"),
    ("&", "\u{fe60}"),
    ("$", "\u{fe69}"),
    ("%", "\u{fe6a}"),
    ("@", "\u{fe6b}"),
    // Small capitals.
    ("A", "ᴀ"),
    ("B", "ʙ"),
    ("C", "ᴄ"),
    ("D", "ᴅ"),
    ("E", "ᴇ"),
    ("F", "ꜰ"),
    ("G", "ɢ"),
    ("H", "ʜ"),
    ("I", "ɪ"),
    ("J", "ᴊ"),
    ("K", "ᴋ"),
    ("L", "ʟ"),
    ("M", "ᴍ"),
    ("N", "ɴ"),
    ("O", "ᴏ"),
    ("P", "ᴘ"),
    ("R", "ʀ"),
    ("S", "ꜱ"),
    ("T", "ᴛ"),
    ("U", "ᴜ"),
    ("V", "ᴠ"),
    ("W", "ᴡ"),
    ("Y", "ʏ"),
    ("Z", "ᴢ"),
];

/// The text with what GSM-7 doesn't have replaced by what looks like it, if all of it can be; else
/// the text as it is.
#[must_use]
pub fn smart(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(|character| septets(character) == 0) else {
        return Cow::Borrowed(text);
    };
    let mut replaced = String::with_capacity(text.len());
    replaced.push_str(&text[..first]);
    for character in text[first..].chars() {
        if septets(character) > 0 {
            replaced.push(character);
        } else if let Some(replacement) = replacement(character) {
            replaced.push_str(replacement);
        } else {
            return Cow::Borrowed(text);
        }
    }
    Cow::Owned(replaced)
}

/// What a character that GSM-7 doesn't have is replaced by.
fn replacement(character: char) -> Option<&'static str> {
    if let '\u{ff01}'..='\u{ff5e}' = character {
        let nth = character as usize - 0xff01;
        return ASCII.get(nth..=nth);
    }
    let known = LOOK_ALIKES.iter().find(|(_, alike)| alike.contains(character));
    known.map(|(replacement, _)| *replacement)
}
