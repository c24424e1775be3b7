//! Cases from the standard, and any text against a slow count that really makes the parts.

use std::borrow::Cow;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    Encoding::{Gsm7, Ucs2},
    *,
};

/// What the standard says of each code, row by row, as it is printed there: 0x00 to 0x7F.
const PRINTED: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                       ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Those behind an escape.
const ESCAPED: &str = "\u{c}^{}\\[~]|€";

/// The text as parts, each a list of characters, each of which is a list of units.
fn parts(text: &str) -> (Encoding, Vec<Vec<Vec<u16>>>) {
    let gsm7 = text.chars().map(gsm7).collect::<Option<Vec<_>>>();
    let ucs2 = || text.chars().map(|character| character.encode_utf16(&mut [0; 2]).to_vec());
    let (encoding, characters, one, of_several) = match gsm7 {
        Some(characters) => (Gsm7, characters, 160, 153),
        None => (Ucs2, ucs2().collect(), 70, 67),
    };
    if characters.iter().map(Vec::len).sum::<usize>() <= one {
        return (encoding, vec![characters]);
    }
    let mut parts = vec![Vec::<Vec<u16>>::new()];
    for character in characters {
        let part = parts.last_mut().unwrap();
        if part.iter().map(Vec::len).sum::<usize>() + character.len() <= of_several {
            part.push(character);
        } else {
            parts.push(vec![character]);
        }
    }
    (encoding, parts)
}

fn gsm7(character: char) -> Option<Vec<u16>> {
    let code = |alphabet: &str| alphabet.chars().position(|other| other == character);
    match (code(PRINTED), code(ESCAPED)) {
        (Some(0x1b), _) | (None, None) => None,
        (Some(code), _) => Some(vec![u16::try_from(code).unwrap()]),
        (None, Some(code)) => Some(vec![0x1b, u16::try_from(code).unwrap()]),
    }
}

fn slow_size(text: &str) -> Size {
    let (encoding, parts) = parts(text);
    let units = parts.iter().flatten().flatten().count() as u64;
    Size { encoding, units, segments: parts.len() as u64 }
}

/// `n` of a text.
fn of(text: &str, n: usize) -> String {
    text.repeat(n)
}

#[test]
fn sizes_at_the_borders() {
    let cases = [
        ("nothing", String::new(), Gsm7, 0, 1),
        ("one", of("a", 1), Gsm7, 1, 1),
        ("all of one", of("a", 160), Gsm7, 160, 1),
        ("one more", of("a", 161), Gsm7, 161, 2),
        ("all of two", of("à", 306), Gsm7, 306, 2),
        ("more than two", of("à", 307), Gsm7, 307, 3),
        ("all of three", of("Ξ", 459), Gsm7, 459, 3),
        ("more than three", of("Ξ", 460), Gsm7, 460, 4),
        ("all of ten", of("@", 1_530), Gsm7, 1_530, 10),
        ("an escape fits", of("a", 158) + "€", Gsm7, 160, 1),
        ("an escape is one too much", of("a", 159) + "€", Gsm7, 161, 2),
        ("escapes alone", of("[", 80), Gsm7, 160, 1),
        ("76 a part, since 153 is odd", of("[", 152), Gsm7, 304, 2),
        ("so 153 of them need a third", of("[", 153), Gsm7, 306, 3),
        ("an escape ends a part", of("a", 151) + "^" + &of("a", 153), Gsm7, 306, 2),
        ("an escape is at its border", of("a", 152) + "^" + &of("a", 151), Gsm7, 305, 2),
        ("and leaves a septet unused", of("a", 152) + "^" + &of("a", 152), Gsm7, 306, 3),
        ("all of one, UCS-2", of("ж", 70), Ucs2, 70, 1),
        ("one more", of("ж", 71), Ucs2, 71, 2),
        ("all of two", of("字", 134), Ucs2, 134, 2),
        ("more than two", of("字", 135), Ucs2, 135, 3),
        ("all of three", of("字", 201), Ucs2, 201, 3),
        ("pairs", of("😀", 35), Ucs2, 70, 1),
        ("33 a part, since 67 is odd", of("😀", 66), Ucs2, 132, 2),
        ("so 67 of them need a third", of("😀", 67), Ucs2, 134, 3),
        ("a pair ends a part", of("ж", 65) + "😀" + &of("ж", 67), Ucs2, 134, 2),
        ("a pair is at its border", of("ж", 66) + "😀" + &of("ж", 65), Ucs2, 133, 2),
        ("and leaves a unit unused", of("ж", 66) + "😀" + &of("ж", 66), Ucs2, 134, 3),
        ("at the second border", of("ж", 133) + "😀" + &of("ж", 65), Ucs2, 200, 3),
        ("and a unit unused there", of("ж", 133) + "😀" + &of("ж", 66), Ucs2, 201, 4),
        ("it is the last one that is not", of("a", 70) + "ж", Ucs2, 71, 2),
        ("escapes are none in UCS-2", of("[", 69) + "ж", Ucs2, 70, 1),
        ("after parts of GSM-7", of("[", 134) + "ж", Ucs2, 135, 3),
        ("the escape itself", "\u{1b}".into(), Ucs2, 1, 1),
        ("a grave accent", "`".into(), Ucs2, 1, 1),
        ("small ç; only the capital is there", "ç".into(), Ucs2, 1, 1),
        ("a tab", "\t".into(), Ucs2, 1, 1),
        ("the Greek alpha is not the Latin A", "Α".into(), Ucs2, 1, 1),
        ("the last character", "\u{10ffff}".into(), Ucs2, 2, 1),
    ];
    for (what, text, encoding, units, segments) in cases {
        assert_eq!(Size::of(&text), Size { encoding, units, segments }, "{what}");
        assert_eq!(slow_size(&text), Size { encoding, units, segments }, "{what}, slowly");
    }
}

#[test]
fn every_character_is_in_the_encoding_that_the_standard_gives_it() {
    let mut found = 0;
    for character in '\0'..=char::MAX {
        let septets = gsm7(character).map_or(0, |units| units.len());
        assert_eq!(usize::from(super::septets(character)), septets, "{character:?}");
        found += usize::from(septets > 0);
    }
    assert_eq!(found, 127 + 10);
}

#[test]
fn what_word_processors_put_in_is_replaced() {
    for (text, replaced) in [
        ("“Hello” — it’s ‘fine’…", "\"Hello\" - it's 'fine'..."),
        ("10\u{a0}% – «½»", "10 % - \"1/2\""),
        ("‹a›\tb\u{200b}\u{feff}\u{2060}c", "<a> bc"),
        ("ＡＢＣ ａｂｃ ０１９！？～", "ABC abc 019!?~"),
        ("ᴀʙᴄ `x´ • 5‼", "ABC 'x' - 5!!"),
    ] {
        assert_eq!(smart(text), replaced);
        assert_eq!(Size::of(&smart(text)).encoding, Gsm7);
    }
}

#[test]
fn a_text_that_can_not_be_gsm7_or_is_already_is_left_as_it_is() {
    for text in ["", "plain [text] €", "“Hello” 😀", "…ж", "“Joa\u{303}o”", "\u{1b}"]
    {
        assert!(matches!(smart(text), Cow::Borrowed(same) if same == text), "{text}");
    }
}

#[test]
fn every_replacement_is_in_gsm7() {
    let replaced = |character: char| match smart(&character.to_string()) {
        Cow::Owned(text) => Some(text),
        Cow::Borrowed(_) => None,
    };
    let all: Vec<_> = ('\0'..=char::MAX).filter_map(replaced).collect();
    assert!(all.len() > 250, "{}", all.len());
    for text in all {
        assert_eq!(Size::of(&text).encoding, Gsm7, "{text:?}");
    }
}

/// Characters of all widths in both encodings, most of them in GSM-7.
fn character() -> impl Strategy<Value = char> {
    let all = |text: &str| select(text.chars().collect::<Vec<_>>());
    prop_oneof![
        40 => all(PRINTED).prop_filter("an escape", |character| *character != '\u{1b}'),
        20 => all(ESCAPED),
        1 => all("жç字`\u{1b}"),
        1 => all("😀\u{10ffff}𝄞"),
    ]
}

/// Texts of up to about three parts: of GSM-7, of characters beyond it, and of both.
fn text() -> impl Strategy<Value = String> {
    let texts = |characters: BoxedStrategy<char>| vec(characters, 0..500);
    let gsm7 = character().prop_filter("UCS-2", |character| septets(*character) > 0);
    let ucs2 = select("ж😀字".chars().collect::<Vec<_>>());
    prop_oneof![
        texts(gsm7.boxed()),
        texts(ucs2.boxed()),
        texts(character().boxed()),
        texts(any::<char>().boxed()),
    ]
    .prop_map(String::from_iter)
}

/// Whether a text could end here: no unit belongs to the one before it.
fn is_whole(encoding: Encoding, part: &[u16]) -> bool {
    match encoding {
        // An escape at the end escapes nothing; what it escapes is the unit after it.
        Gsm7 => part.last() != Some(&0x1b),
        Ucs2 => char::decode_utf16(part.iter().copied()).all(|character| character.is_ok()),
    }
}

proptest! {
    #[test]
    fn no_part_ends_within_an_escape_or_a_surrogate_pair(text in text()) {
        let Size { encoding, segments, .. } = Size::of(&text);
        let (cut_as, parts) = parts(&text);
        let parts: Vec<Vec<u16>> = parts.iter().map(|part| part.concat()).collect();
        prop_assert_eq!((encoding, segments), (cut_as, parts.len() as u64));
        let most = if parts.len() == 1 { encoding.single_max() } else { encoding.part_max() };
        for part in &parts {
            prop_assert!(is_whole(encoding, part) && part.len() as u64 <= most, "{:?}", part);
        }
        // None could be spared: the first character of a part did not fit into the one before.
        for pair in parts.windows(2) {
            let next = if encoding == Gsm7 { pair[1][0] == 0x1b } else { pair[1][0] & 0xfc00 == 0xd800 };
            prop_assert!(pair[0].len() as u64 + 1 + u64::from(next) > most);
        }
    }

    #[test]
    fn any_text_is_as_many_parts_as_it_can_be_cut_into(text in text()) {
        prop_assert_eq!(Size::of(&text), slow_size(&text));
    }

    #[test]
    fn any_replaced_text_is_gsm7_and_replaced_no_further(text in text()) {
        let once = smart(&text);
        let fine = Size::of(&once).encoding == Gsm7 || once == text;
        prop_assert!(fine, "{}", once);
        prop_assert_eq!(&smart(&once), &once);
    }
}
