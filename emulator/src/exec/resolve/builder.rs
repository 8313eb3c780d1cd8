//! Builds the flat program of one kernel and the functions it calls.
use super::layout::Globals;
use super::shared::SharedLayout;
use crate::exec::LoadError;
use crate::exec::op::{Guard, Instr, Op};
use crate::exec::regs::Class;
use crate::exec::special::Special;
use crate::ptx::ast::{Instruction, ScalarType};
use std::collections::HashMap;

/// A kernel with everything it calls, ready to run.
#[derive(Default)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instr>,
    /// Opcode forms that instructions name by index.
    pub(crate) names: Vec<String>,
    /// Source text of instructions, by line.
    pub(crate) texts: HashMap<u32, String>,
    pub(crate) entry: u32,
    pub(crate) narrow: u32,
    pub(crate) wide: u32,
    pub(crate) preds: u32,
    pub(crate) narrow_constants: Vec<(u32, u32)>,
    pub(crate) wide_constants: Vec<(u32, u64)>,
    pub(crate) pred_constants: Vec<(u32, bool)>,
    pub(crate) specials: Vec<(Special, u32)>,
    pub(crate) local_bytes: u32,
    pub(crate) shared: SharedLayout,
    pub(crate) param_bytes: u32,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    Register {
        ty: ScalarType,
        slot: u32,
    },
    Shared {
        at: u32,
    },
    Local {
        at: u32,
        bytes: u32,
    },
    /// A parameter of the kernel.
    Param {
        at: u32,
    },
    Global {
        address: u64,
    },
    Label(u32),
    Targets(Vec<String>),
}

/// One nested scope.
#[derive(Default)]
pub(crate) struct Scope {
    pub(crate) names: HashMap<String, Binding>,
    pub(crate) ranges: HashMap<String, (ScalarType, u32)>,
}

/// A function being placed: where its parameters lie.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) start: u32,
    pub(crate) link: u32,
    pub(crate) params: Vec<Formal>,
    pub(crate) returns: Vec<Formal>,
}

/// A parameter or return value of a device function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Formal {
    /// Bytes of local memory.
    Memory {
        at: u32,
        bytes: u32,
    },
    Register {
        ty: ScalarType,
        slot: u32,
    },
}

/// Translates statements to instructions.
pub(crate) struct Builder<'m> {
    pub(crate) code: Code,
    pub(crate) globals: &'m Globals,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) placed: HashMap<String, Placed>,
    /// Where labels lie, by label number.
    pub(crate) labels: Vec<Option<u32>>,
    /// Slot that holds the return address, inside a device function.
    pub(crate) link: Option<u32>,
    names: HashMap<String, u32>,
    narrow_by_value: HashMap<u32, u32>,
    wide_by_value: HashMap<u64, u32>,
    pred_by_value: HashMap<bool, u32>,
    special_slots: HashMap<Special, u32>,
    carry: Option<u32>,
    guard: Guard,
    line: u32,
    name: u32,
}

/// A load error at an instruction.
pub(crate) fn refuse(instruction: &Instruction, message: impl Into<String>) -> LoadError {
    LoadError { line: instruction.line, text: instruction.text.clone(), message: message.into() }
}

impl<'m> Builder<'m> {
    pub(crate) fn new(globals: &'m Globals) -> Self {
        Builder {
            code: Code::default(),
            globals,
            scopes: Vec::new(),
            placed: HashMap::new(),
            labels: Vec::new(),
            link: None,
            names: HashMap::new(),
            narrow_by_value: HashMap::new(),
            wide_by_value: HashMap::new(),
            pred_by_value: HashMap::new(),
            special_slots: HashMap::new(),
            carry: None,
            guard: Guard::Always,
            line: 0,
            name: 0,
        }
    }

    /// Sets what the next instructions are counted and reported as.
    pub(crate) fn begin(&mut self, form: String, guard: Guard, line: u32, text: &str) {
        let next = self.names.len() as u32;
        self.name = *self.names.entry(form.clone()).or_insert(next);
        if self.name == next {
            self.code.names.push(form);
        }
        self.guard = guard;
        self.line = line;
        self.code.texts.entry(line).or_insert_with(|| text.to_string());
    }

    /// Appends an instruction.
    pub(crate) fn emit(&mut self, op: Op) {
        let (guard, line, name) = (self.guard, self.line, self.name);
        self.code.instructions.push(Instr { op, guard, line, name });
    }

    /// The index of the next instruction.
    pub(crate) fn here(&self) -> u32 {
        self.code.instructions.len() as u32
    }

    /// A fresh register.
    pub(crate) fn slot(&mut self, class: Class) -> u32 {
        let count = match class {
            Class::Narrow => &mut self.code.narrow,
            Class::Wide => &mut self.code.wide,
            Class::Pred => &mut self.code.preds,
        };
        *count += 1;
        *count - 1
    }

    /// The register that holds a constant of 32 bits or fewer.
    pub(crate) fn narrow(&mut self, value: u32) -> u32 {
        if let Some(slot) = self.narrow_by_value.get(&value) {
            return *slot;
        }
        let slot = self.slot(Class::Narrow);
        self.narrow_by_value.insert(value, slot);
        self.code.narrow_constants.push((slot, value));
        slot
    }

    /// The register that holds a constant of 64 bits.
    pub(crate) fn wide(&mut self, value: u64) -> u32 {
        if let Some(slot) = self.wide_by_value.get(&value) {
            return *slot;
        }
        let slot = self.slot(Class::Wide);
        self.wide_by_value.insert(value, slot);
        self.code.wide_constants.push((slot, value));
        slot
    }

    /// The predicate that is always true or always false.
    pub(crate) fn pred(&mut self, value: bool) -> u32 {
        if let Some(slot) = self.pred_by_value.get(&value) {
            return *slot;
        }
        let slot = self.slot(Class::Pred);
        self.pred_by_value.insert(value, slot);
        self.code.pred_constants.push((slot, value));
        slot
    }

    /// The register that holds a special value.
    pub(crate) fn special(&mut self, special: Special) -> u32 {
        if let Some(slot) = self.special_slots.get(&special) {
            return *slot;
        }
        let slot = self.slot(special.class());
        self.special_slots.insert(special, slot);
        self.code.specials.push((special, slot));
        slot
    }

    /// The predicate that holds the carry of `add.cc` and its kin.
    pub(crate) fn carry(&mut self) -> u32 {
        match self.carry {
            Some(slot) => slot,
            None => {
                let slot = self.slot(Class::Pred);
                self.carry = Some(slot);
                slot
            }
        }
    }

    /// What a name stands for here.
    pub(crate) fn lookup(&mut self, name: &str) -> Option<Binding> {
        for k in (0..self.scopes.len()).rev() {
            if let Some(binding) = self.scopes[k].names.get(name) {
                return Some(binding.clone());
            }
            if let Some(ty) = self.ranged(k, name) {
                let slot = self.slot(Class::of(ty));
                let binding = Binding::Register { ty, slot };
                self.scopes[k].names.insert(name.to_string(), binding.clone());
                return Some(binding);
            }
        }
        self.globals.names.get(name).cloned()
    }

    /// The type of a register declared as part of a range such as `%r<12>` in scope `k`.
    fn ranged(&self, k: usize, name: &str) -> Option<ScalarType> {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        // A prefix may itself end in digits (`%r1<4>`): every split is tried.
        (1..=name.len().saturating_sub(digits)).find_map(|tail| {
            let (prefix, number) = name.split_at(name.len() - tail);
            let (ty, count) = self.scopes[k].ranges.get(prefix)?;
            let canonical = number == "0" || !number.starts_with('0');
            (canonical && number.parse::<u32>().ok()? < *count).then_some(*ty)
        })
    }

    /// Binds a name in the innermost scope; false if it was taken.
    pub(crate) fn bind(&mut self, name: &str, binding: Binding) -> bool {
        match self.scopes.last_mut() {
            Some(scope) => scope.names.insert(name.to_string(), binding).is_none(),
            None => false,
        }
    }

    /// Reserves local memory per thread.
    pub(crate) fn local(&mut self, bytes: u32, align: u32) -> u32 {
        let at = self.code.local_bytes.next_multiple_of(align.max(1));
        self.code.local_bytes = at.saturating_add(bytes);
        at
    }
}
