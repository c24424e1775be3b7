//! The texts of a batch's messages: its body rendered for each recipient, with typographic characters
//! replaced if the batch wants that, and no longer than it allows.
//!
//! Workers, estimates and readers all come here, so that what is estimated, what is sent and what is
//! shown are the same. The text of a body without variables is made once.

use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU8};

use super::{
    batch::BatchSpec,
    chunk::Entry,
    encoding::{Size, smart},
    outcome::SendError,
    template::{RenderError, Template},
};

/// What makes the texts of one batch.
#[derive(Debug)]
pub struct Composer {
    /// `None` if the body can't be compiled; intake refuses such bodies.
    template: Option<Template>,
    /// The batch's own values of variables that the body uses.
    defaults: BTreeMap<String, String>,
    smart_encoding: bool,
    segments_max: Option<NonZeroU8>,
    /// The text of every message, of a body without variables.
    only: Option<Only>,
}

/// A text that all messages have.
#[derive(Debug)]
struct Only {
    text: String,
    size: Size,
}

/// A message has no text that could be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The body is no template.
    #[error("the body can't be compiled")]
    Template,
    /// It can't be rendered for this recipient.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It takes more segments than the batch allows.
    #[error("the text takes {segments} segments, and the batch allows {max}")]
    TooManySegments {
        /// What it takes.
        segments: u64,
        /// What the batch allows.
        max: NonZeroU8,
    },
}

// === impl Composer ===

impl Composer {
    /// What makes the texts of the batch.
    #[must_use]
    pub fn new(spec: &BatchSpec) -> Self {
        let template = Template::compile(spec.body.as_str()).ok();
        let used = template.iter().flat_map(Template::variables);
        let defaults = used.filter_map(|name| spec.variables.get_key_value(name));
        let defaults = defaults.map(|(name, value)| (name.clone(), value.clone())).collect();
        let BatchSpec { smart_encoding, segments_max, .. } = *spec;
        let mut composer = Self { template, defaults, smart_encoding, segments_max, only: None };
        composer.only = composer.only_text();
        composer
    }

    /// Writes the text for a recipient into `out`, which is emptied first.
    ///
    /// # Errors
    /// [`Unfit`]; then `out` holds nothing of use.
    pub fn write(&self, entry: &Entry<'_>, out: &mut String) -> Result<(), Unfit> {
        match &self.only {
            Some(only) => {
                out.clear();
                out.push_str(&only.text);
            }
            None => self.render(entry, out)?,
        }
        if self.segments_max.is_none() {
            return Ok(());
        }
        self.judge(self.only.as_ref().map_or_else(|| Size::of(out), |only| only.size))
    }

    /// What the text for a recipient comes to, also if that is too much. It may be written into
    /// `scratch`.
    ///
    /// # Errors
    /// [`Unfit`], if there is none.
    pub fn size(&self, entry: &Entry<'_>, scratch: &mut String) -> Result<Size, Unfit> {
        match &self.only {
            Some(only) => Ok(only.size),
            None => self.render(entry, scratch).map(|()| Size::of(scratch)),
        }
    }

    /// Judges a text by what it comes to.
    ///
    /// # Errors
    /// [`Unfit::TooManySegments`].
    pub fn judge(&self, size: Size) -> Result<(), Unfit> {
        match self.segments_max {
            Some(max) if size.segments > u64::from(max.get()) => {
                Err(Unfit::TooManySegments { segments: size.segments, max })
            }
            _ => Ok(()),
        }
    }

    fn only_text(&self) -> Option<Only> {
        self.template.as_ref().filter(|template| template.variables().next().is_none())?;
        let mut text = String::new();
        self.render(&Entry::default(), &mut text).ok()?;
        Some(Only { size: Size::of(&text), text })
    }

    fn render(&self, entry: &Entry<'_>, out: &mut String) -> Result<(), Unfit> {
        let template = self.template.as_ref().ok_or(Unfit::Template)?;
        let default = |name: &str| self.defaults.get(name).map(String::as_str);
        template.render(out, |name| entry.variable(name).or_else(|| default(name)))?;
        if self.smart_encoding {
            let replaced = match smart(out) {
                Cow::Owned(replaced) => Some(replaced),
                Cow::Borrowed(_) => None,
            };
            if let Some(replaced) = replaced {
                *out = replaced;
            }
        }
        Ok(())
    }
}

// === impl Unfit ===

impl Unfit {
    fn code(&self) -> &'static str {
        match self {
            Self::Template => "template_invalid",
            Self::Render(RenderError::Missing(_)) => "template_variable_missing",
            Self::Render(RenderError::TooLong) => "body_too_long",
            Self::TooManySegments { .. } => "too_many_segments",
        }
    }
}

/// What a message fails with that has no text.
impl From<Unfit> for SendError {
    fn from(unfit: Unfit) -> Self {
        Self::permanent(unfit.code(), unfit.to_string())
    }
}

#[cfg(test)]
mod tests;
