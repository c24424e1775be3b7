//! The service as a whole, talked to as its users do: through its command line and its HTTP API,
//! with a real redis-server, a provider and a callback receiver that keep books.

mod accounts;
mod api;
mod audit;
mod callback_hosts;
mod callbacks;
mod cli;
mod cli_remote;
mod control;
mod delivery;
mod demo;
mod events;
mod faults;
mod forms;
mod guarantee;
mod guard;
mod harness;
mod inputs;
mod instruments;
mod intake;
mod layers;
mod licences;
mod listen;
mod model;
mod ndjson;
mod packed;
mod process;
mod samples;
mod scene;
mod send;
mod servers;
mod signing;
mod slow;
mod store;
mod tls;
mod watching;
