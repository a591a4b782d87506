#![no_main]

entropysum_fuzz::target!("npz");
