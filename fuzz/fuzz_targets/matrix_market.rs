#![no_main]

entropysum_fuzz::target!("matrix_market");
