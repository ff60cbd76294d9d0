//! The built program, in a home of its own for each test.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod admission;
mod archive;
mod authorities;
mod ca;
mod capture;
mod certificates;
mod clients;
mod config;
mod db;
mod doctor;
mod downloads;
mod endings;
mod exchange;
mod flows;
mod gateways;
mod outages;
mod pages;
mod pair;
mod redaction;
mod reload;
mod retention;
mod run;
mod serve;
mod service;
mod session_authority;
mod sessions;
mod site;
mod squid;
mod stats;
mod strict;
mod trust;
mod upstream;
mod upstream_proxy;
mod wire;
mod world;
