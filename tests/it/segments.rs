//! Whether texts come to what their carrier will bill: against Twilio's own calculator.
//!
//! It says the same of every text whose characters stand for themselves. It differs where several
//! characters are one to the eye, such as a family of emoji: it never cuts these, though the standard
//! knows only pairs and escapes, and so it may count a segment more. What it replaces for smart
//! encoding differs where `domain::encoding::smart` says so.

use std::iter;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use ringback::domain::encoding::{Encoding, Size, smart};
use serde_json::json;

use crate::harness::Oracle;

const GSM7: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.!?\
                    @£$¥èéùìòÇ\n\rØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà";
const ESCAPED: &str = "^{}\\[~]|€\u{c}";
const BEYOND: &str = "çжЯ字漢語`\u{1b}\t“”😀😎🚀𝄞";
const TYPOGRAPHIC: &str = "“”‘’«»„–—…•½¼¾÷´`‼ＡＢＣ０１９\u{200b}\u{2060}";

fn random(rng: &mut StdRng, alphabets: &[(&str, f64)], length: usize) -> String {
    let all: Vec<Vec<char>> = alphabets.iter().map(|(text, _)| text.chars().collect()).collect();
    let character = |rng: &mut StdRng| {
        let rarest_first = iter::zip(&all, alphabets).rev();
        let mut chosen = rarest_first.filter(|(_, (_, share))| rng.random_bool(*share));
        let chosen = chosen.next().map_or(&all[0], |(characters, _)| characters);
        chosen[rng.random_range(0..chosen.len())]
    };
    (0..length).map(|_| character(rng)).collect()
}

/// What Twilio's calculator says of each text.
fn judged(texts: &[String], smart: bool) -> Vec<String> {
    let cases = texts.iter().map(|text| json!({"text": text, "smart": smart}));
    Oracle::node("segments.mjs").answers(cases)
}

/// What we say, in its words.
fn said(text: &str) -> String {
    let Size { encoding, segments, .. } = Size::of(text);
    let word = match encoding {
        Encoding::Gsm7 => "GSM-7",
        Encoding::Ucs2 => "UCS-2",
    };
    format!("{word} {segments}")
}

/// We say the same of each of the texts.
fn equal(texts: &[String], theirs: &[String], ours: impl Fn(&str) -> String) {
    let differs = |(text, said): &(&String, &String)| ours(text) != **said;
    let differences: Vec<_> = iter::zip(texts, theirs).filter(differs).collect();
    assert!(differences.is_empty(), "{}: {:?}", differences.len(), differences[0]);
}

#[test]
fn ten_thousand_texts_come_to_what_twilios_calculator_says() {
    let mut rng = StdRng::seed_from_u64(7);
    let texts: Vec<_> = (0..10_000)
        .map(|nth| {
            let (escaped, beyond) = ([0.0, 0.2, 0.9][nth % 3], [0.0, 0.002, 0.5][nth / 3 % 3]);
            let length = rng.random_range(0..360);
            random(&mut rng, &[(GSM7, 1.0), (ESCAPED, escaped), (BEYOND, beyond)], length)
        })
        .collect();
    let theirs = judged(&texts, false);
    equal(&texts, &theirs, said);
    for encoding in ["GSM-7", "UCS-2"] {
        for segments in 1..=4 {
            let found = theirs.contains(&format!("{encoding} {segments}"));
            assert!(found, "no text has {segments} segments of {encoding}");
        }
    }
}

#[test]
fn replaced_texts_come_to_what_twilios_calculator_says() {
    let mut rng = StdRng::seed_from_u64(8);
    let texts: Vec<_> = (0..2_000)
        .map(|_| {
            let length = rng.random_range(0..360);
            random(&mut rng, &[(GSM7, 1.0), (ESCAPED, 0.1), (TYPOGRAPHIC, 0.1)], length)
        })
        .collect();
    equal(&texts, &judged(&texts, true), |text| said(&smart(text)));
    assert!(texts.iter().filter(|text| smart(text) != text.as_str()).count() > 1_500);
}

#[test]
fn what_is_one_to_the_eye_is_cut_where_the_standard_cuts_it() {
    let family = "👨\u{200d}👩\u{200d}👧";
    let texts = ["e\u{301}".repeat(67), "字".repeat(66) + "e\u{301}" + &"字".repeat(66)];
    assert_eq!(judged(&texts, false), ["UCS-2 3", "UCS-2 3"]);
    assert_eq!(texts.map(|text| said(&text)), ["UCS-2 2", "UCS-2 2"]);
    let together: Vec<_> = (0..60).map(|length| "ж".repeat(length) + &family.repeat(10)).collect();
    for (text, theirs) in iter::zip(&together, judged(&together, false)) {
        let theirs: u64 = theirs.strip_prefix("UCS-2 ").unwrap().parse().unwrap();
        assert!((theirs - 1..=theirs).contains(&Size::of(text).segments), "{text}: {theirs}");
    }
}
