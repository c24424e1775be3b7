#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringback_fuzz::check("table", input));
