# Chores; `just` lists them. Each is one command that works without just, too.

shared := env("DRUSE_SHARED", "../shared")

# What there is
default:
    @just --list --unsorted

# All tests, with the real helm and kubectl where they can be fetched
test:
    cargo xtask test

# The tests of one crate: `just test-crate plan`
test-crate crate *args:
    cargo test -p druse-{{crate}} {{args}}

# Formatting and lints, as CI has them
lint:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings

# The bodies of the fuzz targets, run as plain tests
fuzz-bodies *args:
    cargo test --manifest-path fuzz/Cargo.toml {{args}}

# druse and its rivals side by side, with ratios: `just bench --only tree,diff --runs 9`
bench *args:
    python3 benches/compare.py --shared {{shared}} {{args}}

# The parts by themselves: reading and writing YAML, templates, one unit, a whole plan
bench-parts *args:
    DRUSE_SHARED={{absolute_path(shared)}} cargo bench -p druse-benches {{args}}

# The embedded API at size: 100,000 objects, 1,000 watches
bench-api *args: build
    python3 benches/api.py {{args}}

# Secrets mounted by the hundred: times, memory; as root
bench-mounts *args: build
    cargo build --release -p druse-csi --example kubelet
    python3 benches/mounts.py {{args}}

# Driver and provider of secrets with upstream's other halves; as root
csi-interop *args:
    cargo build -p druse-cli
    cargo build -p druse-csi --example kubelet
    python3 tools/csi_interop.py {{args}}

# The release binary
build:
    cargo build --release -p druse-cli

# A rehearsal of the repository's own homelab
up *args:
    cargo run --release -p druse-cli -- up homelab {{args}}
