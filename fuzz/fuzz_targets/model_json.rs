#![no_main]

entropysum_fuzz::target!("model_json");
