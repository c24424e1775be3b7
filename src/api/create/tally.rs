//! What messages come to that are not sent: each is judged and rendered as a worker would, and only
//! counted. The memory is the same for any number of them.

use crate::{
    api::{
        model::{Encodings, Unsendable},
        submission::Numbers,
    },
    domain::{
        batch::BatchSpec,
        chunk::{Entry, NewChunk, entries},
        composer::{Composer, Unfit},
        encoding::{Encoding, Size},
        message::FinalState,
        recipient::Recipient,
        template::RenderError,
    },
};

/// How many indexes are told of messages that can't be sent.
const INDEXES_MAX: usize = 100;

/// Messages as they are counted.
pub(super) struct Tally {
    composer: Composer,
    /// The text in hand.
    text: String,
    numbers: Numbers,
    pub(super) counted: Counted,
}

/// What was counted. Each message is in one of the encodings, or can't be sent for one reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) messages: u64,
    pub(super) segments: u64,
    pub(super) encodings: Encodings,
    pub(super) invalid: Unsendable,
    pub(super) opted_out: Unsendable,
    pub(super) duplicates: u64,
    pub(super) lack_variables: Unsendable,
    pub(super) too_long: Unsendable,
    pub(super) too_many_segments: Unsendable,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(spec: &BatchSpec) -> Self {
        Self {
            composer: Composer::new(spec),
            text: String::new(),
            numbers: Numbers::new(),
            counted: Counted::default(),
        }
    }

    /// Counts the messages of a chunk. It may wait for the disk.
    ///
    /// # Errors
    /// If the numbers so far can't be kept, to compare further ones with.
    pub(super) fn add(&mut self, chunk: &NewChunk) -> rusqlite::Result<()> {
        let all = std::iter::zip(&chunk.states, entries(&chunk.recipients));
        for (index, (state, entry)) in std::iter::zip(chunk.first.., all) {
            self.counted.messages += 1;
            if *state == FinalState::Failed as u8 {
                match Recipient::parse(entry.to) {
                    Ok(_) => self.counted.opted_out.add(index),
                    Err(_) => self.counted.invalid.add(index),
                }
                continue;
            }
            if !self.numbers.add(entry.to)? {
                self.counted.duplicates += 1;
            }
            self.count(index, &entry);
        }
        Ok(())
    }

    fn count(&mut self, index: u32, entry: &Entry<'_>) {
        let counted = &mut self.counted;
        let size = self.composer.size(entry, &mut self.text);
        match size.and_then(|size| self.composer.judge(size).map(|()| size)) {
            Ok(Size { encoding, segments, .. }) => {
                counted.segments += segments;
                match encoding {
                    Encoding::Gsm7 => counted.encodings.gsm7 += 1,
                    Encoding::Ucs2 => counted.encodings.ucs2 += 1,
                }
            }
            Err(Unfit::Render(RenderError::Missing(_))) => counted.lack_variables.add(index),
            Err(Unfit::Render(RenderError::TooLong)) => counted.too_long.add(index),
            Err(Unfit::TooManySegments { .. }) => counted.too_many_segments.add(index),
            // Such bodies are refused before.
            Err(Unfit::Template) => {}
        }
    }
}

// === impl Counted ===

impl Counted {
    /// The messages that would be sent.
    pub(super) fn sendable(&self) -> u64 {
        self.encodings.gsm7 + self.encodings.ucs2
    }
}

// === impl Unsendable ===

impl Unsendable {
    fn add(&mut self, index: u32) {
        self.count += 1;
        if self.indexes.len() < INDEXES_MAX {
            self.indexes.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::domain::chunk::Chunker;

    /// The batch's body and variables, and recipients with their own ones.
    fn counted(
        body: &str,
        default: &[(&str, &str)],
        entries: &[(&str, &[(&str, &str)])],
    ) -> Counted {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = default.iter().map(own).collect();
        let spec = BatchSpec { body: body.to_owned(), variables, ..BatchSpec::default() };
        counted_of(&spec, entries)
    }

    fn counted_of(spec: &BatchSpec, entries: &[(&str, &[(&str, &str)])]) -> Counted {
        let (mut tally, mut chunker) = (Tally::new(spec), Chunker::new(3));
        for (to, variables) in entries {
            let entry = Entry { to, reference: None, variables: variables.to_vec() };
            if let Some(chunk) = chunker.push(&entry) {
                tally.add(&chunk).unwrap();
            }
        }
        if let Some(chunk) = chunker.finish() {
            tally.add(&chunk).unwrap();
        }
        tally.counted
    }

    #[test]
    fn each_message_is_counted_in_one_place() {
        let (ann, zoe) = ([("name", "Ann")], [("name", "Zoë")]);
        let long = "x".repeat(16 * 1024);
        let long = [("name", long.as_str())];
        let entries: [(&str, &[(&str, &str)]); 7] = [
            ("+15551230000", &ann),
            ("nobody", &ann),
            ("+15551230002", &[]),
            ("+15551230003", &zoe),
            ("+15551230004", &long),
            ("+15551230000", &ann),
            ("nobody", &[]),
        ];
        let one = |index| Unsendable { count: 1, indexes: vec![index] };
        let expected = Counted {
            messages: 7,
            segments: 3,
            encodings: Encodings { gsm7: 2, ucs2: 1 },
            invalid: Unsendable { count: 2, indexes: vec![1, 6] },
            opted_out: Unsendable::default(),
            duplicates: 1,
            lack_variables: one(2),
            too_long: one(4),
            too_many_segments: Unsendable::default(),
        };
        assert_eq!(counted("Hi {{name}}", &[], &entries), expected);
        let filled = counted("Hi {{name}}", &[("name", "ж")], &entries);
        assert_eq!((filled.encodings.ucs2, filled.lack_variables.count), (2, 0));
    }

    #[test]
    fn who_has_opted_out_is_counted_for_that_and_nothing_else() {
        let (mut tally, mut chunker) = (Tally::new(&BatchSpec::default()), Chunker::new(9));
        for to in ["+15551230001", "nobody", "+15551230001"] {
            chunker.push(&Entry { to, ..Entry::default() });
        }
        let mut chunk = chunker.finish().unwrap();
        chunk.opt_out(0);
        tally.add(&chunk).unwrap();
        let Counted { messages, invalid, opted_out, duplicates, .. } = tally.counted;
        assert_eq!((messages, invalid.indexes, opted_out.indexes), (3, vec![1], vec![0]));
        assert_eq!((duplicates, tally.counted.encodings.gsm7), (0, 1));
    }

    #[test]
    fn the_first_hundred_indexes_are_told() {
        let entries = [("nobody", &[][..]); 250];
        let invalid = counted("Hi", &[], &entries).invalid;
        assert_eq!((invalid.count, invalid.indexes), (250, (0..100).collect()));
    }

    #[test]
    fn segments_are_those_of_the_rendered_text() {
        let texts = [160, 161, 306, 307].map(|length| "x".repeat(length - 1));
        let variables = texts.each_ref().map(|text| [("rest", text.as_str())]);
        let entries = variables.each_ref().map(|own| ("+15551230000", &own[..]));
        assert_eq!(counted("x{{rest}}", &[], &entries).segments, 1 + 2 + 2 + 3);
        let entries = variables.each_ref().map(|own| ("+15551230000", &own[..]));
        assert_eq!(counted("[{{rest}}", &[], &entries).segments, 2 + 2 + 3 + 3);
    }

    /// Texts of up to three segments, of characters of all widths.
    fn text() -> impl Strategy<Value = String> {
        let gsm7 = "aaaàÖ @[€^“—…".chars().collect::<Vec<_>>();
        let all = "aÖ[€ж“½\u{a0}😀".chars().collect::<Vec<_>>();
        let texts = |characters| vec(select(characters), 0..400).prop_map(String::from_iter);
        prop_oneof![texts(gsm7), texts(all)]
    }

    proptest! {
        #[test]
        fn what_is_estimated_is_what_workers_submit(
            texts in vec(option::of(text()), 0..8),
            smart_encoding: bool,
            most in 0_u8..5,
        ) {
            let segments_max = NonZeroU8::new(most);
            let body = "Hi {{text}}".to_owned();
            let spec = BatchSpec { body, smart_encoding, segments_max, ..BatchSpec::default() };
            let own: Vec<Vec<(&str, &str)>> =
                texts.iter().map(|text| text.iter().map(|text| ("text", &**text)).collect()).collect();
            let entries: Vec<_> = own.iter().map(|own| ("+15551230000", &own[..])).collect();
            let counted = counted_of(&spec, &entries);

            let (composer, mut out, mut submitted) = (Composer::new(&spec), String::new(), vec![]);
            for (to, variables) in entries {
                let entry = Entry { to, reference: None, variables: variables.to_vec() };
                if composer.write(&entry, &mut out).is_ok() {
                    submitted.push(Size::of(&out));
                }
            }
            prop_assert_eq!(counted.sendable(), submitted.len() as u64);
            prop_assert_eq!(counted.segments, submitted.iter().map(|size| size.segments).sum::<u64>());
            let ucs2 = submitted.iter().filter(|size| size.encoding == Encoding::Ucs2).count();
            prop_assert_eq!(counted.encodings.ucs2, ucs2 as u64);
            let missing = texts.iter().filter(|text| text.is_none()).count() as u64;
            prop_assert_eq!(counted.lack_variables.count, missing);
            let all = counted.sendable() + missing + counted.too_many_segments.count;
            prop_assert_eq!(counted.messages, all);
        }
    }
}
