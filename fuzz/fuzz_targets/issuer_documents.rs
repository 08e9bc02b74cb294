#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| druse_fuzz::issuer_documents(data));
