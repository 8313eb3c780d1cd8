//! Programs compiled before. Tests make one context after the other and load the same few texts into each; what is compiled
//! is the same in all of them, unless the text has variables, which lie in a context's memory.

use super::table::lock;
use crate::exec::Program;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// The programs used last, at most so many.
const KEPT: usize = 32;

/// What a program was compiled from: the SHA-256 of the text, and the compute capability that accepted it.
pub(crate) type Source = (String, (u32, u32));

#[derive(Default)]
pub(crate) struct Programs(Mutex<VecDeque<(Source, Arc<Program>)>>);

impl Programs {
    /// The program made from `source`, by `compile` if there is none yet.
    ///
    /// # Errors
    /// Those of `compile`; the next call tries again.
    pub(crate) fn get<E>(
        &self,
        source: Source,
        compile: impl FnOnce() -> Result<Program, E>,
    ) -> Result<Arc<Program>, E> {
        let known = {
            let mut kept = lock(&self.0);
            let place = kept.iter().position(|(other, _)| *other == source);
            place.and_then(|place| kept.remove(place))
        };
        let (source, program) = match known {
            Some(known) => known,
            None => (source, Arc::new(compile()?)),
        };
        if !program.has_variables() {
            let mut kept = lock(&self.0);
            kept.push_front((source, Arc::clone(&program)));
            kept.truncate(KEPT);
        }
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Settings;
    use crate::memory::DeviceMemory;

    fn load(programs: &Programs, name: &str, body: &str) -> Arc<Program> {
        let text = format!(".version 8.0\n.target sm_75\n.address_size 64\n{body}\n");
        let memory = DeviceMemory::new(1 << 20);
        let compile = || Program::load(&text, &Settings::default(), &memory);
        programs.get((name.to_owned(), (8, 0)), compile).unwrap()
    }

    #[test]
    fn equal_texts_are_compiled_once() {
        let programs = Programs::default();
        let kernel = |number: usize| format!(".visible .entry k{number}()\n{{\n ret;\n}}");
        let first = load(&programs, "0", &kernel(0));
        assert!(Arc::ptr_eq(&first, &load(&programs, "0", &kernel(0))));
        for number in 1..=KEPT {
            load(&programs, &number.to_string(), &kernel(number));
        }
        assert!(!Arc::ptr_eq(&first, &load(&programs, "0", &kernel(0))), "only the last ones are kept");
    }

    #[test]
    fn variables_belong_to_one_context() {
        let programs = Programs::default();
        let body = ".global .align 4 .u32 count;\n.visible .entry k()\n{\n ret;\n}";
        assert!(!Arc::ptr_eq(&load(&programs, "a", body), &load(&programs, "a", body)));
    }
}
