//! `POST /v1/batches` as CSV.

use std::fmt::Write;

use ringback::api::fuzzing::{Batch, lines, table};

use super::batch::{check_refused, line};

/// The batches that the first byte chooses from.
const SETTINGS: [&str; 4] = [
    r#"{"body":"Hi"}"#,
    r#"{"body":"Hi {{name}}, {{code}}","variables":{"name":"there","code":""}}"#,
    r#"{"body":"{{to}} {{reference}}"}"#,
    r#"{"body":"{{a}}","duplicates":"skip"}"#,
];

/// Where the pieces of a table end makes no difference, and a table that is accepted means the same as
/// lines, and when it is written anew.
pub(crate) fn check(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let settings = SETTINGS[usize::from(*first) % SETTINGS.len()];
    let whole = table(settings.as_bytes(), body, usize::MAX);
    for cut in [1, 2, 7, 64] {
        assert_eq!(table(settings.as_bytes(), body, cut), whole, "in pieces of {cut}");
    }
    match whole {
        Ok(batch) => {
            // Those that were left out are in neither form.
            let kept = Batch { skipped: 0, ..batch };
            let as_lines = as_lines(settings, &kept);
            assert_eq!(lines(as_lines.as_bytes(), 64), Ok(kept.clone()), "as lines");
            let again = as_table(&kept);
            assert_eq!(table(settings.as_bytes(), again.as_bytes(), 64), Ok(kept), "written anew");
        }
        Err(refused) => check_refused(&refused),
    }
}

fn as_lines(settings: &str, batch: &Batch) -> String {
    let mut text = format!("{settings}\n");
    for recipient in &batch.recipients {
        writeln!(text, "{}", line(recipient)).unwrap();
    }
    text
}

/// The same recipients with all fields in quotes. A variable that a recipient does not give is empty.
fn as_table(batch: &Batch) -> String {
    let body = ringback::domain::template::Template::compile(batch.spec.body.as_str()).unwrap();
    let mut names: Vec<&str> = body.variables().collect();
    names.retain(|name| !["to", "reference"].contains(name));
    names.sort_unstable();
    names.dedup();
    let mut text = "to,reference".to_owned();
    for name in &names {
        write!(text, ",{name}").unwrap();
    }
    for recipient in &batch.recipients {
        let reference = recipient.reference.as_deref().unwrap_or_default();
        let mut fields = vec![recipient.to.as_str(), reference];
        for name in &names {
            let own = recipient.variables.iter().find(|(own, _)| own == name);
            fields.push(own.map_or("", |(_, value)| value));
        }
        let fields: Vec<_> =
            fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
        write!(text, "\n{}", fields.join(",")).unwrap();
    }
    text
}
