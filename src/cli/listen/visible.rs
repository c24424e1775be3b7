//! Text from outside, made safe to print: what could move a terminal's cursor, change its state or
//! turn its text around is shown as what it is.

use std::borrow::Cow;

/// `text` with each such character written as `\u{1b}`. Line ends and tabs are among them.
pub(in crate::cli) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !is_hidden(c), |c| c.escape_unicode().to_string())
}

/// The same for text of several lines: line ends and tabs stay.
pub(in crate::cli) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t') || !is_hidden(c), |c| c.escape_unicode().to_string())
}

/// The same for a JSON document, which keeps its meaning: outside of strings there are none of
/// these characters, and within, JSON has a notation of its own.
pub(in crate::cli) fn json(document: &str) -> Cow<'_, str> {
    escaped(document, |c| !is_hidden(c), |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(
    text: &str,
    stays: impl Fn(char) -> bool,
    escape: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if text.chars().all(&stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
        } else {
            shown.push_str(&escape(c));
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is a control character, a separator of lines, or one of those that change
/// the direction of text (Unicode Standard Annex 9).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(line("a\u{1b}[2Jb\r\n\u{9b}c\u{7f}"), r"a\u{1b}[2Jb\u{d}\u{a}\u{9b}c\u{7f}");
        assert_eq!(line("\u{202e}abc"), r"\u{202e}abc");
        assert_eq!(lines("a\n\tb\u{7}"), "a\n\tb\\u{7}");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let text = "Grüße, 你好, 👩‍👩‍👧 — \"quoted\"";
        assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn a_json_document_keeps_its_meaning() {
        let document = serde_json::to_string("a\u{9b}\u{202e}\u{1b}b").unwrap();
        let shown = json(&document);
        assert!(shown.is_ascii(), "{shown}");
        let read: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, "a\u{9b}\u{202e}\u{1b}b");
    }
}
