//! The embedded implementation of each third-party system's contract.
