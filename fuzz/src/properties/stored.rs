//! What the stores keep: specs, packed recipients, records of tries, and what is known of waiting
//! messages.

use ringback::{
    domain::{
        chunk::{Chunker, entry_at, offsets},
        record,
    },
    store::fuzzing::{spec, stored},
};

/// The most messages that a chunk is said to have.
const MESSAGES: usize = 64;

/// Whatever the bytes are, reading them ends, and what was read is written back and read the same.
pub(crate) fn check(bytes: &[u8]) {
    if let Some(read) = spec(bytes) {
        let written = stored(&read);
        assert_eq!(spec(&written).as_ref(), Some(&read));
        assert_eq!(stored(&spec(&written).unwrap_or_default()), written);
    }
    check_log(bytes);
    check_recipients(bytes);
    let open = record::read_open(bytes);
    let written = record::write_open(&open);
    assert_eq!(record::read_open(&written), open);
    assert_eq!(written[0], u8::from(open.maybe_accepted));
}

fn check_log(bytes: &[u8]) {
    let records: Vec<_> = record::read(bytes).collect();
    assert!(records.len() <= bytes.len());
    let mut log = Vec::new();
    for record in &records {
        log = postcard::to_extend(record, log).expect("a record");
    }
    assert!(record::read(&log).eq(records), "a log that was written back reads otherwise");
}

fn check_recipients(bytes: &[u8]) {
    let offsets = offsets(bytes, MESSAGES);
    assert!(offsets.is_sorted() && offsets.first() == Some(&0));
    assert!(offsets.iter().all(|offset| *offset as usize <= bytes.len()));
    let entries: Vec<_> =
        offsets[..offsets.len() - 1].iter().map(|offset| entry_at(bytes, *offset)).collect();
    let mut chunker = Chunker::new(u16::MAX);
    let mut chunks = Vec::new();
    for entry in &entries {
        chunks.extend(chunker.push(entry));
    }
    chunks.extend(chunker.finish());
    let mut again = Vec::new();
    for chunk in &chunks {
        let offsets = ringback::domain::chunk::offsets(&chunk.recipients, chunk.states.len());
        assert_eq!(offsets.len(), chunk.states.len() + 1);
        let entries = offsets.iter().take(chunk.states.len());
        again.extend(entries.map(|offset| entry_at(&chunk.recipients, *offset)));
    }
    assert_eq!(again, entries);
    // An offset that leads nowhere reads as an empty recipient.
    let beyond = u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(1);
    assert_eq!(entry_at(bytes, beyond).to, "");
}
