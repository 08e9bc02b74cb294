//! The repository's chores, in one place.
//!
//! `cargo xtask test`: all tests, with the real tools they compare with.
//! `cargo xtask ci`: formatting, lints and all tests, as CI runs them.
//!
//! And the generators of checked-in data, each from a named source:
//!
//! `cargo xtask schemas OPENAPI_DIR GO_MODULE_DIR...`: the embedded API's schemas.
//! `cargo xtask merge-keys SWAGGER.json`: how kustomize's patches merge lists.
//! `cargo xtask api-resources DISCOVERY_DIR OUT`: the embedded API's resource table.
//! `cargo xtask api-dump OUT (TYPES.go V1_TYPES.go)...`: how Go dumps pods and what else its messages show.
//! `cargo xtask api-roles BOOTSTRAPPOLICY_TESTDATA OUT`: the roles a cluster is born with.

mod api_columns;
mod api_dump;
mod api_protobuf;
mod api_resources;
mod api_roles;
mod dev;
mod merge_keys;
mod schemas;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((chore, rest)) if chore == "test" => dev::test(rest),
        Some((chore, [])) if chore == "ci" => dev::ci(),
        Some((chore, rest)) if chore == "schemas" => schemas::run(rest),
        Some((chore, [from, to])) if chore == "api-resources" => {
            api_resources::run(Path::new(from), Path::new(to)).map_err(std::io::Error::other)
        }
        Some((chore, [from, to])) if chore == "api-roles" => {
            api_roles::run(Path::new(from), Path::new(to)).map_err(std::io::Error::other)
        }
        Some((chore, [to, files @ ..])) if chore == "api-dump" => {
            api_dump::run(files, Path::new(to)).map_err(std::io::Error::other)
        }
        Some((chore, [source])) if chore == "merge-keys" => {
            merge_keys::run(source).map_err(|e| std::io::Error::other(e.to_string()))
        }
        Some((chore, [openapi, to, modules @ ..])) if chore == "api-protobuf" => {
            api_protobuf::run(Path::new(openapi), Path::new(to), modules).map_err(std::io::Error::other)
        }
        Some((chore, [modules, version, resources, to])) if chore == "api-columns" => {
            api_columns::run(Path::new(modules), version, Path::new(resources), Path::new(to))
                .map_err(std::io::Error::other)
        }
        _ => Err(std::io::Error::other(
            "usage: xtask test | ci | merge-keys SWAGGER.json | schemas OPENAPI_DIR GO_MODULE_DIR... | api-resources DISCOVERY_DIR OUT | api-roles BOOTSTRAPPOLICY_TESTDATA OUT | api-dump OUT (TYPES.go V1_TYPES.go)... | api-columns GO_MODULES_K8S_IO VERSION RESOURCES OUT",
        )),
    }
}
