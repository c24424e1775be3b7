//! The `ringback` program: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser;
use ringback::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two providers of cryptography may be linked in; naming one keeps TLS from guessing. It fails
    // only if one was named before, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cli::parse().run()
}
