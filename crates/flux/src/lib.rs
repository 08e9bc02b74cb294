//! The Flux API types, substitution and the unit graph.
