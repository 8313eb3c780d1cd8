//! Which functions a kernel reaches, and where the shared variables that they use lie.
use super::layout::{align, bytes, refuse_variable};
use crate::exec::LoadError;
use crate::ptx::ast::{AddressBase, Function, Instruction, Operand, Space, Statement, Variable};
use std::collections::{HashMap, HashSet};

/// Shared memory of a kernel.
#[derive(Default)]
pub(crate) struct SharedLayout {
    at: HashMap<(u32, String), u32>,
    /// Bytes of all variables with a size.
    pub(crate) static_bytes: u32,
    /// Where the arrays sized at launch begin.
    pub(crate) dynamic_at: u32,
}

impl SharedLayout {
    /// Where a variable begins; nothing if the kernel does not use it.
    pub(crate) fn at(&self, variable: &Variable) -> Option<u32> {
        self.at.get(&(variable.line, variable.name.clone())).copied()
    }
}

/// What a kernel and the functions it calls mention.
#[derive(Default)]
pub(crate) struct Reach<'m> {
    /// Functions that are called, each after those that it calls itself.
    pub(crate) functions: Vec<&'m Function>,
    shared: Vec<&'m Variable>,
    symbols: HashSet<&'m str>,
}

impl<'m> Reach<'m> {
    /// Follows the calls of a kernel.
    pub(crate) fn of(
        kernel: &'m Function,
        functions: &HashMap<&'m str, &'m Function>,
    ) -> Result<Self, LoadError> {
        let mut reach = Reach::default();
        reach.visit(kernel, functions, &mut Vec::new())?;
        Ok(reach)
    }

    fn visit(
        &mut self,
        function: &'m Function,
        functions: &HashMap<&'m str, &'m Function>,
        path: &mut Vec<&'m str>,
    ) -> Result<(), LoadError> {
        path.push(&function.name);
        let mut calls = Vec::new();
        self.scan(function.body.as_deref().unwrap_or_default(), &mut calls);
        for call in calls {
            let callees = call.operands.iter().filter_map(|operand| match operand {
                Operand::Symbol { name, .. } => functions.get(name.as_str()).copied(),
                _ => None,
            });
            for callee in callees {
                if path.contains(&callee.name.as_str()) {
                    let message = format!("{} calls itself; recursion is not supported", callee.name);
                    return Err(LoadError { line: call.line, text: call.text.clone(), message });
                }
                if !self.functions.iter().any(|known| known.name == callee.name) {
                    self.visit(callee, functions, path)?;
                }
            }
        }
        path.pop();
        self.functions.push(function);
        Ok(())
    }

    fn scan(&mut self, statements: &'m [Statement], calls: &mut Vec<&'m Instruction>) {
        for statement in statements {
            match statement {
                Statement::Variable(variable) if variable.space == Space::Shared => {
                    self.shared.push(variable)
                }
                Statement::Instruction(instruction) => {
                    instruction.operands.iter().for_each(|operand| self.mention(operand));
                    if instruction.opcode == "call" {
                        calls.push(instruction);
                    }
                }
                Statement::Block(inner) => self.scan(inner, calls),
                _ => {}
            }
        }
    }

    fn mention(&mut self, operand: &'m Operand) {
        match operand {
            Operand::Symbol { name, .. } | Operand::Address { base: AddressBase::Symbol(name), .. } => {
                self.symbols.insert(name);
            }
            Operand::Vector(items) | Operand::List(items) => items.iter().for_each(|item| self.mention(item)),
            _ => {}
        }
    }

    /// Places the shared variables: those with a size one after the other, those without all behind them.
    pub(crate) fn place(&self, module: &'m [Variable]) -> Result<SharedLayout, LoadError> {
        let mut layout = SharedLayout::default();
        let mut dynamic = Vec::new();
        let used = module.iter().filter(|variable| self.symbols.contains(variable.name.as_str()));
        // Dynamic shared memory starts at a multiple of 16, or more if an array asks for it.
        let mut dynamic_align = 16;
        for variable in used.chain(self.shared.iter().copied()) {
            let bytes = bytes(variable)?;
            let key = (variable.line, variable.name.clone());
            if bytes == 0 && variable.array.is_some() {
                dynamic_align = dynamic_align.max(align(variable));
                dynamic.push(key);
                continue;
            }
            let at = u64::from(layout.static_bytes).next_multiple_of(u64::from(align(variable)));
            layout.at.insert(key, at as u32);
            layout.static_bytes = u32::try_from(at + bytes)
                .map_err(|_| refuse_variable(variable, "shared variables exceed 4 GiB"))?;
        }
        layout.dynamic_at = layout.static_bytes.checked_next_multiple_of(dynamic_align).ok_or_else(|| {
            LoadError { line: 0, text: String::new(), message: "shared variables exceed 4 GiB".into() }
        })?;
        layout.at.extend(dynamic.into_iter().map(|key| (key, layout.dynamic_at)));
        Ok(layout)
    }
}
