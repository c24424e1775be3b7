//! Message bodies with variables.

use ringback::domain::template::{RENDERED_BYTES_MAX, Template, is_name};

/// The input is a text and, behind a NUL, the value of its variables. What compiles renders within its
/// bound, takes values as they are, and says the same when its variables are put in by name again.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (source, value) = text.split_once('\0').unwrap_or((&text, "x"));
    let Ok(template) = Template::compile(source) else { return };
    let names: Vec<String> = template.variables().map(str::to_owned).collect();
    assert!(names.iter().all(|name| is_name(name) && source.contains(name.as_str())), "{names:?}");

    let mut out = "left over".to_owned();
    let rendered = template.render(&mut out, |_| Some(value));
    assert!(out.len() <= RENDERED_BYTES_MAX);
    let expected = replaced(source, value);
    assert_eq!(rendered.is_ok(), expected.len() <= RENDERED_BYTES_MAX);
    assert!(rendered.is_err() || out == expected);
    if !names.is_empty() {
        assert!(template.render(&mut out, |_| None).is_err());
    }

    let by_name: Vec<String> = names.iter().map(|name| format!("{{{{{name}}}}}")).collect();
    let look = |wanted: &str| {
        let at = names.iter().position(|name| name == wanted)?;
        Some(by_name[at].as_str())
    };
    if template.render(&mut out, look).is_ok() {
        let again = Template::compile(out.as_str()).expect("the same text");
        assert!(again.variables().eq(names.iter().map(String::as_str)));
        let [mut first, mut second] = [String::new(), String::new()];
        let results = (
            template.render(&mut first, |_| Some(value)),
            again.render(&mut second, |_| Some(value)),
        );
        assert!(results.0 == results.1 && first == second);
    }
}

/// The text with `value` in place of its variables.
fn replaced(source: &str, value: &str) -> String {
    let (mut out, mut rest) = (String::new(), source);
    while let Some((before, variable)) = rest.split_once("{{") {
        out.push_str(before);
        out.push_str(value);
        rest = variable.split_once("}}").expect("an end, as it compiles").1;
    }
    out + rest
}
