//! Simulated nodes, scheduling and workloads, as data-driven stages.
