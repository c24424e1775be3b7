//! The scripts: the only writers of the store.
//!
//! Each is idempotent, takes its time from the server, checks first and writes last, and does a
//! bounded amount of work. What they share, `lib.lua`, `events.lua` and `finish.lua`, is put between
//! a script's first line (its flags) and the rest.

use std::sync::LazyLock;

/// A script as the server gets it.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) code: String,
    pub(super) sha: String,
}

// === impl Script ===

impl Script {
    fn new(name: &'static str, lib: &str, source: &str) -> Self {
        let (flags, body) = source.split_once('\n').unwrap_or((source, ""));
        let code = format!("{flags}\n{lib}\n{body}");
        let sha = redis::Script::new(&code).get_hash().to_owned();
        Self { name, code, sha }
    }
}

macro_rules! scripts {
    ($($(#[$of:meta])* $name:ident: $lib:expr, $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new($file, $lib, include_str!(concat!("scripts/", $file, ".lua")))
        });)*

        /// All of them, for a server that has not met them yet.
        pub(super) static ALL: LazyLock<Vec<&'static Script>> = LazyLock::new(|| vec![$(&*$name),*]);

        #[cfg(test)]
        const SOURCES: &[(&str, &str)] =
            &[$(($file, include_str!(concat!("scripts/", $file, ".lua")))),*];
    };
}

const LIB: &str = concat!(
    include_str!("scripts/lib.lua"),
    "\n",
    include_str!("scripts/events.lua"),
    "\n",
    include_str!("scripts/finish.lua")
);

/// What the scripts of a provider's pauses share.
const SHARE: &str = include_str!("scripts/share.lua");

scripts! {
    OPEN: LIB, "open";
    APPEND: LIB, "append";
    SEAL: LIB, "seal";
    DROP: LIB, "drop";
    CANCEL: LIB, "cancel";
    PAUSE: LIB, "pause";
    RESUME: LIB, "resume";
    CLAIM: LIB, "claim";
    SETTLE: LIB, "settle";
    RECEIPT: LIB, "receipt";
    LAPSE: LIB, "lapse";
    HOLD: LIB, "hold";
    REPAIR: LIB, "repair";
    WATCH: LIB, "watch";
    RECOVER: LIB, "recover";
    CLOSE: LIB, "close";
    ERASE: LIB, "erase";
    AMEND: LIB, "amend";
    EXPIRE: LIB, "expire";
    FORWARD: LIB, "forward";
    START: LIB, "start";
    EXPEL: LIB, "expel";
    PURGE: LIB, "purge";
    TAKE: LIB, "take";
    BODY: LIB, "body";
    RECORD: LIB, "record";
    REPLAY: LIB, "replay";
    ORDER: LIB, "order";
    REDO: LIB, "redo";
    GRANT: "", "grant";
    THROTTLE: SHARE, "throttle";
    PAUSED: SHARE, "paused";
    STOP: "", "stop";
    AWAY: "", "away";
    COUNT: "", "count";
    UNCOUNT: "", "uncount";
    SUPPRESS: "", "suppress";
    RESTORE: "", "restore";
    SUPPRESSED: "", "suppressed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_headed_by_its_flags_keys_arguments_and_answer() {
        for (name, source) in SOURCES {
            assert!(source.starts_with("#!lua"), "{name} has no flags");
            for heading in ["\n-- KEYS 1 ", "\n-- ARGV 1 ", "\n-- Returns "] {
                let headed =
                    source.contains(heading) || (*name == "paused" && heading.contains("ARGV"));
                assert!(headed, "{name} lacks {heading:?}");
            }
        }
    }

    #[test]
    fn no_script_leaves_the_slot_of_its_key() {
        // All other keys are made of KEYS 1.
        let shared = LIB
            .split("'rb:")
            .chain(SOURCES.iter().flat_map(|(_, source)| source.split("'rb:").skip(1)));
        for named in shared.skip(1) {
            assert!(named.starts_with("bell'"), "a key beside the partition: 'rb:{named:.40}");
        }
    }

    #[test]
    fn only_what_is_new_stops_when_memory_is_full() {
        let refusing: Vec<_> = SOURCES
            .iter()
            .filter(|(_, source)| source.starts_with("#!lua\n"))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(refusing, ["open", "append", "seal", "amend", "order", "count"]);
    }
}
