#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edgetap_fuzz::parquet(data));
