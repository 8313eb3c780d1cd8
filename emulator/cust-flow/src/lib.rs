//! Holds the test of cust on the emulator; see `tests/cust_flow.rs`.
