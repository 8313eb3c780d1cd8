//! The reference: f64, dense, formula by formula; it shares no code with the backends.
//!
//! It stores the whole score matrix and is meant for tests.
