//! What the test files share: random cases, the materialised reference that sets tolerances, and the
//! properties that every backend must have. A backend takes part by implementing [`Subject`].
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

pub(crate) mod case;
pub(crate) mod compare;
pub(crate) mod cpu_subject;
pub(crate) mod draw;
pub(crate) mod edges;
pub(crate) mod hard_negatives;
pub(crate) mod limits;
pub(crate) mod materialised;
pub(crate) mod properties;
pub(crate) mod row_negatives;
pub(crate) mod spec;
pub(crate) mod subject;
pub(crate) mod table;

pub(crate) use spec::Limits;
