//! Which bare names are registers: inline assembly declares `p`, not `%p`.

use std::collections::HashMap;

/// Register names of the scopes around the current statement.
#[derive(Default)]
pub(super) struct Scopes<'a> {
    /// Name (or prefix of a range with its count) by scope, innermost last.
    open: Vec<HashMap<&'a str, Option<u32>>>,
    /// Registers declared since the outermost scope opened.
    declared: u64,
}

impl<'a> Scopes<'a> {
    /// Enters a scope.
    pub(super) fn open(&mut self) {
        if self.open.is_empty() {
            self.declared = 0;
        }
        self.open.push(HashMap::new());
    }

    /// Leaves the innermost scope.
    pub(super) fn close(&mut self) {
        self.open.pop();
    }

    /// Notes a register or a range `name<count>`; returns how many the function has by now.
    pub(super) fn declare(&mut self, name: &'a str, count: Option<u32>) -> u64 {
        if let Some(scope) = self.open.last_mut() {
            scope.insert(name, count);
        }
        self.declared += u64::from(count.unwrap_or(1));
        self.declared
    }

    /// Whether a bare name is a register here.
    pub(super) fn is_register(&self, name: &str) -> bool {
        self.open.iter().any(|scope| scope.get(name) == Some(&None)) || self.is_in_range(name)
    }

    fn is_in_range(&self, name: &str) -> bool {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(10);
        // A prefix may itself end in digits, so every split is tried.
        (1..=digits).any(|tail| {
            let (prefix, index) = name.split_at(name.len() - tail);
            let canonical = index == "0" || !index.starts_with('0');
            let Ok(index) = index.parse::<u32>() else {
                return false;
            };
            canonical
                && self
                    .open
                    .iter()
                    .any(|scope| matches!(scope.get(prefix), Some(Some(count)) if index < *count))
        })
    }
}
