//! What is no JSON.

use super::*;

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let deep = format!("{}{}", to(&"[".repeat(200)), "]".repeat(200));
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("\u{feff}{}", "line 1 column 1"),
        ("{\n \"body\": NaN}", "line 2 column 10"),
        (r#"{"body":"a"} x"#, "line 1 column 14"),
        (r#"{"body":"a",}"#, "line 1 column 13"),
        (r#"{"body":"a" "b"}"#, "line 1 column 13"),
        ("{\"body\":\"a\nb\"}", "line 1 column 10"),
        (r#"{"body":01}"#, "line 1 column 10"),
        (r#"{"\ud800":1}"#, "line 1"),
        (deep.as_str(), "line 1"),
    ] {
        match parsed(body) {
            Err(Refusal::Syntax(detail)) => assert!(detail.contains(place), "{body}: {detail}"),
            other => panic!("{body} gave {other:?}"),
        }
    }
    let Err(Refusal::Syntax(detail)) = parsed(b"{\n\"body\":\"\xff\"}") else { panic!() };
    assert_eq!(detail, "invalid UTF-8 at line 2 column 9");
    let Err(Refusal::Syntax(_)) = parsed(b"{\"unknown\":\"\xc3\"}") else { panic!() };
}

#[test]
fn a_syntax_error_after_wrong_fields_is_still_a_syntax_error() {
    assert!(matches!(parsed(r#"{"color":"red","recipients":[1,"#), Err(Refusal::Syntax(_))));
}
