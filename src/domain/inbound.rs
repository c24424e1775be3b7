//! What a recipient answers: whether it means that they want no more, or want it again.

use super::number::Number;

/// A message that somebody sent to one of our senders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Who sent it.
    pub from: Number,
    /// The sender it was sent to.
    pub to: String,
    /// What it says; `None` if it is no word of these.
    pub keyword: Option<Keyword>,
}

/// A word that keeps the list of opt-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    /// They want nothing more.
    OptOut,
    /// They want messages again.
    OptIn,
}

/// What opts out, and what opts in. Source: Twilio's default keywords, "Advanced Opt-Out".
const OPT_OUT: [&str; 8] =
    ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"];
const OPT_IN: [&str; 3] = ["START", "YES", "UNSTOP"];

// === impl Keyword ===

impl Keyword {
    /// The keyword that a text is, as a whole and whatever its case; blanks around it don't count.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let is = |word: &&str| word.eq_ignore_ascii_case(text);
        if OPT_OUT.iter().any(is) {
            Some(Self::OptOut)
        } else if OPT_IN.iter().any(is) {
            Some(Self::OptIn)
        } else {
            None
        }
    }

    /// The same where the carrier has read the text already: its word for what it made of it wins. Twilio's
    /// `OptOutType` is `STOP`, `START` or `HELP`, and not there for any other text.
    #[must_use]
    pub fn read_with(carriers_word: Option<&str>, text: &str) -> Option<Self> {
        match carriers_word {
            Some("STOP") => Some(Self::OptOut),
            Some("START") => Some(Self::OptIn),
            Some("HELP") => None,
            Some(_) | None => Self::read(text),
        }
    }

    /// Its word in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::OptOut => "opt_out",
            Self::OptIn => "opt_in",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_the_whole_message_whatever_its_case() {
        for text in ["STOP", "stop", " Stop\r\n", "stopall", "Unsubscribe", "cancel", "END", "quit"]
        {
            assert_eq!(Keyword::read(text), Some(Keyword::OptOut), "{text:?}");
        }
        for text in ["revoke", "OptOut"] {
            assert_eq!(Keyword::read(text), Some(Keyword::OptOut), "{text:?}");
        }
        for text in ["START", "yes", "\tunstop "] {
            assert_eq!(Keyword::read(text), Some(Keyword::OptIn), "{text:?}");
        }
        for text in ["", "HELP", "please stop", "stop.", "stop it", "yess", "no", "ſtop", "s t o p"]
        {
            assert_eq!(Keyword::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_carriers_word_wins() {
        for (word, text, keyword) in [
            (Some("STOP"), "arrêt", Some(Keyword::OptOut)),
            (Some("START"), "stop", Some(Keyword::OptIn)),
            (Some("HELP"), "stop", None),
            (Some(""), "stop", Some(Keyword::OptOut)),
            (None, "start", Some(Keyword::OptIn)),
        ] {
            assert_eq!(Keyword::read_with(word, text), keyword, "{word:?} {text}");
        }
    }
}
