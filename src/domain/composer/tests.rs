//! One text, whoever asks for it.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::domain::encoding::Encoding;

/// A batch with this body and the value of its variable `name`, if it gives one.
fn spec(body: &str, name: Option<&str>) -> BatchSpec {
    let variables = name.map(|name| ("name".to_owned(), name.to_owned())).into_iter().collect();
    BatchSpec { body: body.to_owned(), variables, ..BatchSpec::default() }
}

fn entry(name: Option<&str>) -> Entry<'_> {
    let variables = name.map(|name| ("name", name)).into_iter().collect();
    Entry { to: "+15551230001", reference: None, variables }
}

fn written(spec: &BatchSpec, name: Option<&str>) -> Result<String, Unfit> {
    let mut out = "left over".to_owned();
    Composer::new(spec).write(&entry(name), &mut out).map(|()| out)
}

#[test]
fn a_recipients_own_value_goes_before_the_batchs() {
    let with_default = spec("Hi {{name}}", Some("there"));
    assert_eq!(written(&with_default, Some("Ann")).unwrap(), "Hi Ann");
    assert_eq!(written(&with_default, None).unwrap(), "Hi there");
    assert_eq!(written(&spec("Hi", Some("there")), Some("Ann")).unwrap(), "Hi");
}

#[test]
fn what_has_no_text_says_why() {
    let long = "x".repeat(16 * 1024);
    for (body, name, code) in [
        ("Hi {{name", None, "template_invalid"),
        ("Hi {{name}}", None, "template_variable_missing"),
        ("Hi {{name}}", Some(long.as_str()), "body_too_long"),
    ] {
        let spec = spec(body, None);
        let error = SendError::from(written(&spec, name).unwrap_err());
        assert_eq!((&*error.code, error.permanent), (code, true), "{body}");
        let size = Composer::new(&spec).size(&entry(name), &mut String::new());
        assert_eq!(SendError::from(size.unwrap_err()).code, code, "{body}");
    }
}

#[test]
fn typographic_characters_are_replaced_after_rendering_if_that_is_wanted() {
    for (body, name, text) in [
        ("“Hi” — {{name}}…", Some("O’Neill"), "\"Hi\" - O'Neill..."),
        ("“Hi” — {{name}}…", Some("😀"), "“Hi” — 😀…"),
        ("“Hi”", None, "\"Hi\""),
        ("❴❴name❵❵", Some("Ann"), "{{name}}"),
    ] {
        let plain = spec(body, None);
        let smart = BatchSpec { smart_encoding: true, ..plain.clone() };
        assert_eq!(written(&smart, name).unwrap(), text);
        let as_given = body.replace("{{name}}", name.unwrap_or_default());
        assert_eq!(written(&plain, name).unwrap(), as_given);
    }
}

#[test]
fn a_text_of_too_many_segments_is_none_but_tells_how_many_they_are() {
    let (two, three) = ("x".repeat(306), "x".repeat(307));
    for body in ["{{name}}", three.as_str()] {
        let spec = BatchSpec { segments_max: NonZeroU8::new(2), ..spec(body, None) };
        let error = SendError::from(written(&spec, Some(&three)).unwrap_err());
        assert_eq!((&*error.code, error.permanent), ("too_many_segments", true));
        assert!(error.detail.contains("takes 3 segments") && error.detail.ends_with("allows 2"));
        let composer = Composer::new(&spec);
        let size = composer.size(&entry(Some(&three)), &mut String::new()).unwrap();
        assert_eq!((size.segments, composer.judge(size).is_err()), (3, true));
    }
    let spec = BatchSpec { segments_max: NonZeroU8::new(2), ..spec("{{name}}", None) };
    assert_eq!(written(&spec, Some(&two)).unwrap(), two);
    // 80 of these are one segment, and 160 in GSM-7 are no more than 70 would be in UCS-2.
    let smart = BatchSpec { smart_encoding: true, segments_max: NonZeroU8::new(1), ..spec };
    let quoted = "“".repeat(160);
    assert_eq!(written(&smart, Some(&quoted)).unwrap(), "\"".repeat(160));
}

#[test]
fn a_text_without_variables_is_made_once() {
    let composer = Composer::new(&spec("Zoë und жanna", None));
    let mut scratch = "untouched".to_owned();
    let size = composer.size(&entry(None), &mut scratch).unwrap();
    assert_eq!((size.encoding, size.units), (Encoding::Ucs2, 13));
    assert_eq!(scratch, "untouched");
}

/// Texts around the length of one segment, of characters of all widths.
fn text() -> impl Strategy<Value = String> {
    let characters = select("aaaaàÖ @[€^{ж“…—½\u{a0}😀".chars().collect::<Vec<_>>());
    vec(characters, 0..200).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn what_is_reckoned_is_what_is_written(
        before in text(),
        name in proptest::option::of(text()),
        default in proptest::option::of(text()),
        has_variable: bool,
        smart_encoding: bool,
        most in 0_u8..4,
    ) {
        let before = before.replace('{', "(");
        let body = if has_variable { before + "{{name}}" } else { before };
        let segments_max = NonZeroU8::new(most);
        let spec = BatchSpec { smart_encoding, segments_max, ..spec(&body, default.as_deref()) };
        let composer = Composer::new(&spec);
        let written = written(&spec, name.as_deref());
        let reckoned = composer.size(&entry(name.as_deref()), &mut String::new());
        let reckoned = reckoned.and_then(|size| composer.judge(size).map(|()| size));
        prop_assert_eq!(written.map(|text| Size::of(&text)), reckoned);
    }
}
