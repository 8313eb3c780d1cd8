//! Modules to be loaded in the place of others: a test of tests changes a kernel behind the back of the host code.

use std::borrow::Cow;
use std::collections::HashMap;

/// What is loaded instead, by the text that the program gives. A setting, not a record: it outlives `ptxemu_clear`.
#[derive(Default)]
pub(crate) struct Substitutes(HashMap<Vec<u8>, Vec<u8>>);

impl Substitutes {
    /// From now on `other` is loaded where `text` is given; without it, `text` itself again.
    pub(crate) fn set(&mut self, text: &[u8], other: Option<&[u8]>) {
        match other {
            Some(other) => self.0.insert(text.to_vec(), other.to_vec()),
            None => self.0.remove(text),
        };
    }

    /// The text to load where `text` is given.
    pub(crate) fn of<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.0.get(text).map_or(Cow::Borrowed(text), |other| Cow::Owned(other.clone()))
    }
}
