//! Message bodies with `{{name}}` variables, compiled once a batch.
//!
//! A name is 1 to 64 letters, digits or underscores; blanks around it are allowed. A value is put
//! in as it is: it is never read as a template itself. A single brace stands for itself.

use std::ops::Range;

/// The longest body that is rendered, in bytes of UTF-8.
pub const RENDERED_BYTES_MAX: usize = 16 * 1024;

const NAME_BYTES_MAX: usize = 64;

/// A compiled body.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Range<usize>),
    Variable(Range<usize>),
}

/// The body can't be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// `{{` without its `}}`.
    #[error("the variable that begins at byte {at} is not closed with }}}}")]
    Unclosed {
        /// Where the `{{` stands, in bytes from 0.
        at: usize,
    },
    /// What stands between the braces is no name.
    #[error(
        "the variable that begins at byte {at} needs a name of 1 to 64 letters, digits or underscores"
    )]
    Name {
        /// Where the `{{` stands, in bytes from 0.
        at: usize,
    },
}

/// One message's body can't be rendered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Neither the recipient nor the batch gives this variable.
    #[error("no value for the variable {0}")]
    Missing(String),
    /// The rendered body would be longer than [`RENDERED_BYTES_MAX`].
    #[error("the rendered body is longer than {RENDERED_BYTES_MAX} bytes")]
    TooLong,
}

// === impl Template ===

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    /// [`InvalidTemplate`] naming where the first broken variable begins.
    pub fn compile(source: impl Into<String>) -> Result<Self, InvalidTemplate> {
        let source = source.into();
        let mut parts = Vec::new();
        let mut rest = 0;
        while let Some(at) = source[rest..].find("{{").map(|found| rest + found) {
            let inner = at + 2;
            let end = source[inner..]
                .find("}}")
                .map(|found| inner + found)
                .ok_or(InvalidTemplate::Unclosed { at })?;
            if at > rest {
                parts.push(Part::Text(rest..at));
            }
            parts.push(Part::Variable(
                name(&source, inner..end).ok_or(InvalidTemplate::Name { at })?,
            ));
            rest = end + 2;
        }
        if rest < source.len() {
            parts.push(Part::Text(rest..source.len()));
        }
        Ok(Self { source, parts })
    }

    /// The names of its variables, in order; one that is used twice is named twice.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(range) => Some(&self.source[range.clone()]),
            Part::Text(_) => None,
        })
    }

    /// Writes the body into `out`, which is emptied first. `value` looks a variable up by name.
    ///
    /// # Errors
    /// [`RenderError`]; `out` then holds what was rendered before it.
    pub fn render<'v>(
        &self,
        out: &mut String,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<(), RenderError> {
        out.clear();
        for part in &self.parts {
            let text = match part {
                Part::Text(range) => &self.source[range.clone()],
                Part::Variable(range) => {
                    let name = &self.source[range.clone()];
                    value(name).ok_or_else(|| RenderError::Missing(name.to_owned()))?
                }
            };
            if out.len() + text.len() > RENDERED_BYTES_MAX {
                return Err(RenderError::TooLong);
            }
            out.push_str(text);
        }
        Ok(())
    }
}

/// The name inside `range`, without the blanks around it.
fn name(source: &str, range: Range<usize>) -> Option<Range<usize>> {
    let inner = &source[range.clone()];
    let name = inner.trim();
    let start = range.start + (inner.len() - inner.trim_start().len());
    is_name(name).then(|| start..start + name.len())
}

/// Whether `text` can name a variable.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, variables: &[(&str, &str)]) -> Result<String, RenderError> {
        let mut out = String::from("left over");
        let value =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        Template::compile(source).unwrap().render(&mut out, value)?;
        Ok(out)
    }

    #[test]
    fn variables_are_put_in() {
        let variables = [("name", "Ann"), ("code", "81")];
        assert_eq!(rendered("Hi {{name}}, {{ code }}!", &variables).unwrap(), "Hi Ann, 81!");
        assert_eq!(rendered("{{name}}{{name}}", &variables).unwrap(), "AnnAnn");
        assert_eq!(rendered("", &variables).unwrap(), "");
    }

    #[test]
    fn a_value_is_never_read_as_a_template() {
        assert_eq!(rendered("{{a}}", &[("a", "{{b}}"), ("b", "no")]).unwrap(), "{{b}}");
    }

    #[test]
    fn single_braces_and_other_scripts_stand_for_themselves() {
        assert_eq!(rendered("{a} } é {{a}} 日本", &[("a", "{")]).unwrap(), "{a} } é { 日本");
    }

    #[test]
    fn a_missing_variable_is_named() {
        assert_eq!(rendered("{{nobody}}", &[]), Err(RenderError::Missing("nobody".into())));
    }

    #[test]
    fn a_broken_variable_is_placed() {
        assert_eq!(Template::compile("Hi {{name"), Err(InvalidTemplate::Unclosed { at: 3 }));
        assert_eq!(Template::compile("Hi {{}}"), Err(InvalidTemplate::Name { at: 3 }));
        assert_eq!(Template::compile("{{a b}}"), Err(InvalidTemplate::Name { at: 0 }));
        let long = format!("{{{{{}}}}}", "n".repeat(65));
        assert_eq!(Template::compile(long), Err(InvalidTemplate::Name { at: 0 }));
    }

    #[test]
    fn the_output_is_bounded() {
        let half = "x".repeat(RENDERED_BYTES_MAX / 2);
        assert_eq!(rendered("{{a}}{{a}}", &[("a", &half)]).unwrap().len(), RENDERED_BYTES_MAX);
        assert_eq!(rendered("{{a}}{{a}}!", &[("a", &half)]), Err(RenderError::TooLong));
    }
}
