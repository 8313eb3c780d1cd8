//! What the test files share: random cases, the materialised reference that sets tolerances, and the
//! properties that every backend must have. A backend takes part by implementing [`Subject`].
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its own part")]

pub mod case;
pub mod compare;
pub mod cpu_subject;
pub mod edges;
pub mod materialised;
pub mod properties;
pub mod spec;
pub mod subject;

pub use case::{BankCase, Case, Items};
pub use compare::check;
pub use cpu_subject::Cpu;
pub use spec::{Limits, Spec};
pub use subject::{Results, Subject};
