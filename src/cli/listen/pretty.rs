//! JSON on several lines, for people: the order of members and the digits of numbers stay as they
//! came.

use serde::de::IgnoredAny;

/// How much longer than the document the result may be. Deep nesting grows further, and is then
/// better read as it came.
const GROWTH_MAX: usize = 8;

/// A document this short may grow as it needs, in bytes.
const SHORT_BYTES: usize = 4 * 1024;

/// How far a level is indented.
const STEP: &str = "  ";

struct Writer {
    text: String,
    depth: usize,
}

/// `document` with one member or item a line; nothing if it is no JSON, or too deep to gain by it.
pub(super) fn pretty(document: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(document).ok()?;
    let longest = document.len().max(SHORT_BYTES).saturating_mul(GROWTH_MAX);
    let mut writer = Writer { text: String::with_capacity(document.len() * 2), depth: 0 };
    let mut rest = document;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '"' => writer.string(rest),
            _ => writer.sign(c, &rest[c.len_utf8()..]),
        };
        if writer.text.len() > longest {
            return None;
        }
    }
    Some(writer.text)
}

// === impl Writer ===

impl Writer {
    /// Copies the string that `rest` begins with, and gives what follows it.
    fn string<'a>(&mut self, rest: &'a str) -> &'a str {
        let mut escaped = true;
        let end = rest.find(|c| {
            // The first quotation mark opens the string; it counts as escaped.
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (string, rest) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        self.text.push_str(string);
        rest
    }

    /// Writes one character outside of strings, and gives what follows it of `rest`.
    fn sign<'a>(&mut self, c: char, rest: &'a str) -> &'a str {
        match c {
            '{' | '[' => {
                self.text.push(c);
                let inside = rest.trim_start();
                if let Some(after) = inside.strip_prefix(['}', ']']) {
                    self.text.push(if c == '{' { '}' } else { ']' });
                    return after;
                }
                self.depth += 1;
                self.new_line();
            }
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                self.new_line();
                self.text.push(c);
            }
            ',' => {
                self.text.push(c);
                self.new_line();
            }
            ':' => self.text.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => self.text.push(c),
        }
        rest
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        for _ in 0..self.depth {
            self.text.push_str(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn members_stand_on_lines_of_their_own_in_their_order() {
        let document = r#"{"b": 1.50, "a":[1 ,{"x":"}{,:\"\\"}], "e":{}, "f": [ ], "l": null}"#;
        let expected = r#"{
  "b": 1.50,
  "a": [
    1,
    {
      "x": "}{,:\"\\"
    }
  ],
  "e": {},
  "f": [],
  "l": null
}"#;
        assert_eq!(pretty(document).unwrap(), expected);
    }

    #[test]
    fn what_is_no_json_or_only_nesting_is_left_alone() {
        assert_eq!(pretty("hello"), None);
        assert_eq!(pretty(r#"{"a":1"#), None);
        let deep = format!("{}{}{}", "[".repeat(100), "1,".repeat(9_000) + "1", "]".repeat(100));
        assert_eq!(pretty(&deep), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_meaning_stays(value in values()) {
            // serde_json indents in the same way.
            let shown = pretty(&value.to_string()).unwrap();
            prop_assert_eq!(&shown, &serde_json::to_string_pretty(&value).unwrap());
        }
    }
}
