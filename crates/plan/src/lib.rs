//! From a tree to a plan: units in dependency order, every object with its provenance.
