//! Helm charts: load, dependencies, values, schema, render, hooks.
