//! All integration tests, as one program: each program of its own would compile the engine's generic code anew.

mod common;

mod autoencoder;
mod autoencoder_cli;
mod checkpoints;
mod cli;
mod cli_stream;
mod conformance;
mod criterion;
mod data_sources;
mod determinism;
mod golden;
mod golden_families;
mod hostile_inputs;
mod identities;
mod layers;
mod linear;
mod linear_cli;
mod mfa;
mod mfa_streaming;
mod missing;
mod mutations;
mod precision;
mod predictor;
mod real_data;
mod robustness;
mod robustness_families;
mod sbn;
mod sbn_streaming;
mod sbn_truncated_stream;
mod sparse;
mod special_functions;
mod store;
mod streaming;
mod tables;
mod vector_families;
