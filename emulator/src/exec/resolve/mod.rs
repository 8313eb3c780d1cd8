//! From the syntax tree to flat programs: registers to slots, labels to indices, variables to addresses.
mod arithmetic;
pub(crate) mod builder;
mod control;
mod convert;
mod family;
mod function;
mod layout;
mod memory;
mod operand;
mod shared;
mod warp;

pub(crate) use builder::Code;
pub(crate) use function::resolve;

use super::forms;
use super::special::Special;
use family::Family;

/// All families whose modifiers combine.
fn families() -> impl Iterator<Item = &'static Family> {
    [memory::FAMILIES, warp::FAMILIES, control::FAMILIES, arithmetic::FAMILIES, convert::FAMILIES]
        .into_iter()
        .flatten()
}

/// Every accepted instruction form, as text: arithmetic forms one by one, the others as patterns whose optional
/// parts stand in brackets and whose alternatives in braces.
pub fn accepted_forms() -> Vec<String> {
    let internal = |name: &&str| !name.contains(' ') || name.starts_with("mov.");
    let mut list: Vec<String> =
        forms::all().map(|form| form.name).filter(internal).map(str::to_string).collect();
    list.extend(families().map(Family::pattern));
    list.sort();
    list
}

/// The special registers that can be read.
pub fn special_registers() -> &'static [&'static str] {
    Special::NAMES
}
