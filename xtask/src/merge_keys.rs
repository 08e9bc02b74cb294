//! `merge-keys`: how lists merge, cut out of an OpenAPI document for the kustomize engine.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Reads an OpenAPI v2 document (JSON, gzipped or not) and writes `crates/kustomize/data/merge-keys.json`.
///
/// kustomize 5.8 merges by Kubernetes 1.21.2: give that release's `api/openapi-spec/swagger.json`.
pub fn run(source: &str) -> Result<(), Box<dyn Error>> {
    let mut bytes = fs::read(source)?;
    if source.ends_with(".gz") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
        bytes = plain;
    }
    let document = druse_object::json::parse(&bytes)?;
    let table = druse_kustomize::Schemas::from_openapi(&document)?.to_table();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kustomize/data/merge-keys.json");
    fs::write(target, table)?;
    Ok(())
}
