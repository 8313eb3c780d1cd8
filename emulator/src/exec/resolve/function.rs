//! Functions: parameters, declarations, statements in order.
use super::builder::{Binding, Builder, Code, Formal, Placed, Scope, refuse};
use super::families;
use super::layout::{Globals, align, bytes, place, refuse_variable};
use super::shared::Reach;
use crate::exec::op::{Guard, Op};
use crate::exec::program::{Kernel, LoadError, ParamInfo};
use crate::exec::regs::Class;
use crate::memory::DeviceMemory;
use crate::ptx::ast::{Function, FunctionKind, Instruction, Module, Space, Statement, Variable};
use std::collections::HashMap;

/// A kernel as the host sees it and as it runs.
pub(crate) struct ResolvedKernel {
    pub(crate) kernel: Kernel,
    pub(crate) code: Code,
}

/// Resolves all kernels of a module and places its variables.
pub(crate) fn resolve(
    module: &Module,
    memory: &DeviceMemory,
) -> Result<(Vec<ResolvedKernel>, Globals), LoadError> {
    let globals = place(module, memory)?;
    // A declaration and its definition share a name: the definition counts.
    let mut functions: HashMap<&str, &Function> = HashMap::new();
    for function in &module.functions {
        let entry = functions.entry(&function.name).or_insert(function);
        if entry.body.is_none() {
            *entry = function;
        }
    }
    let entries = module.functions.iter().filter(|f| f.kind == FunctionKind::Entry && f.body.is_some());
    let kernels = entries.map(|entry| kernel(entry, &globals, &functions)).collect::<Result<_, _>>()?;
    Ok((kernels, globals))
}

fn kernel<'m>(
    entry: &'m Function,
    globals: &'m Globals,
    functions: &'m HashMap<&'m str, &'m Function>,
) -> Result<ResolvedKernel, LoadError> {
    let reach = Reach::of(entry, functions)?;
    let mut builder = Builder::new(globals);
    builder.code.shared = reach.place(&globals.shared)?;
    builder.push_module_scope()?;
    let mut params = Vec::new();
    // Callees lie before their callers: lanes in a callee then come first where a warp has diverged.
    for function in reach.functions {
        if function.kind == FunctionKind::Entry {
            builder.code.entry = builder.here();
            params = builder.entry(function)?;
        } else {
            builder.device(function)?;
        }
    }
    let code = builder.finish()?;
    let declared: u32 = code.narrow + 2 * code.wide;
    let directives = &entry.directives;
    let kernel = Kernel {
        name: entry.name.clone(),
        params,
        static_shared: code.shared.static_bytes,
        local_bytes: code.local_bytes,
        max_threads: directives.maxntid.or(directives.reqntid).map_or(1024, |n| {
            n.iter().fold(1u32, |product, k| product.saturating_mul((*k).max(1))).min(1024)
        }),
        required_block: directives.reqntid,
        registers: directives.maxnreg.unwrap_or(255).min(declared).clamp(1, 255),
    };
    Ok(ResolvedKernel { kernel, code })
}

impl<'m> Builder<'m> {
    /// The module's shared variables that this kernel uses.
    fn push_module_scope(&mut self) -> Result<(), LoadError> {
        self.scopes.push(Scope::default());
        for variable in &self.globals.shared {
            if let Some(at) = self.code.shared.at(variable)
                && !self.bind(&variable.name, Binding::Shared { at })
            {
                return Err(refuse_variable(variable, format!("{} is declared twice", variable.name)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, function: &'m Function) -> Result<Vec<ParamInfo>, LoadError> {
        self.scopes.push(Scope::default());
        let mut params = Vec::new();
        for param in &function.params {
            let size = bytes(param)?;
            let offset = u64::from(self.code.param_bytes).next_multiple_of(u64::from(align(param)));
            // The driver takes at most 32764 bytes of parameters.
            if offset + size > 32764 {
                return Err(refuse_variable(param, "the parameters exceed 32764 bytes"));
            }
            self.code.param_bytes = (offset + size) as u32;
            params.push(ParamInfo { offset: offset as u32, size: size as u32, align: align(param) });
            self.bind(&param.name, Binding::Param { at: offset as u32 });
        }
        self.link = None;
        self.body(function)?;
        self.scopes.pop();
        Ok(params)
    }

    fn device(&mut self, function: &'m Function) -> Result<(), LoadError> {
        if function.body.is_none() {
            return Err(LoadError {
                line: function.line,
                text: function.name.clone(),
                message: format!(
                    "{} is called but defined elsewhere; linking is not supported",
                    function.name
                ),
            });
        }
        self.scopes.push(Scope::default());
        let params = function.params.iter().map(|v| self.formal(v)).collect::<Result<_, _>>()?;
        let returns = function.returns.iter().map(|v| self.formal(v)).collect::<Result<_, _>>()?;
        let link = self.slot(Class::Narrow);
        self.link = Some(link);
        let placed = Placed { start: self.here(), link, params, returns };
        self.placed.insert(function.name.clone(), placed);
        self.body(function)?;
        self.scopes.pop();
        Ok(())
    }

    fn formal(&mut self, variable: &Variable) -> Result<Formal, LoadError> {
        let (binding, formal) = if variable.space == Space::Reg {
            let slot = self.slot(Class::of(variable.ty));
            (Binding::Register { ty: variable.ty, slot }, Formal::Register { ty: variable.ty, slot })
        } else {
            let bytes = self.bytes_of_local(variable)?;
            let at = self.local(bytes, align(variable));
            (Binding::Local { at, bytes }, Formal::Memory { at, bytes })
        };
        self.bind(&variable.name, binding);
        Ok(formal)
    }

    fn bytes_of_local(&self, variable: &Variable) -> Result<u32, LoadError> {
        // The hardware's limit of local memory is 512 KiB per thread.
        u32::try_from(bytes(variable)?)
            .ok()
            .filter(|bytes| bytes.saturating_add(self.code.local_bytes) <= 512 << 10)
            .ok_or_else(|| refuse_variable(variable, "local memory exceeds 512 KiB per thread"))
    }

    fn body(&mut self, function: &'m Function) -> Result<(), LoadError> {
        self.statements(function.body.as_deref().unwrap_or_default())?;
        self.begin("exit".into(), Guard::Always, function.line, &function.name);
        match self.link {
            Some(link) => self.emit(Op::Return(link)),
            None => self.emit(Op::Exit),
        }
        Ok(())
    }

    fn statements(&mut self, statements: &'m [Statement]) -> Result<(), LoadError> {
        self.scopes.push(Scope::default());
        // Labels first: branches go forward too.
        for statement in statements {
            match statement {
                Statement::Label(name, line) => {
                    let label = self.labels.len() as u32;
                    self.labels.push(None);
                    if !self.bind(name, Binding::Label(label)) {
                        let message = format!("label {name} is defined twice");
                        return Err(LoadError { line: *line, text: format!("{name}:"), message });
                    }
                }
                Statement::BranchTargets { name, targets, .. } => {
                    self.bind(name, Binding::Targets(targets.clone()));
                }
                _ => {}
            }
        }
        for statement in statements {
            self.statement(statement)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn statement(&mut self, statement: &'m Statement) -> Result<(), LoadError> {
        match statement {
            Statement::Variable(variable) => self.declare(variable),
            Statement::Label(name, _) => {
                if let Some(Binding::Label(label)) = self.lookup(name) {
                    self.labels[label as usize] = Some(self.here());
                }
                Ok(())
            }
            Statement::Instruction(instruction) => self.instruction(instruction),
            Statement::Block(inner) => self.statements(inner),
            Statement::BranchTargets { .. } | Statement::CallPrototype { .. } => Ok(()),
        }
    }

    fn declare(&mut self, variable: &Variable) -> Result<(), LoadError> {
        let fresh = match variable.space {
            Space::Reg if variable.vector > 1 || variable.array.is_some() => {
                return Err(refuse_variable(variable, "registers cannot be vectors or arrays here"));
            }
            Space::Reg if variable.ty.bytes() > 8 => {
                return Err(refuse_variable(variable, "128-bit registers are not supported"));
            }
            Space::Reg => match (variable.count, self.scopes.last_mut()) {
                (Some(count), Some(scope)) => {
                    scope.ranges.insert(variable.name.clone(), (variable.ty, count)).is_none()
                }
                _ => {
                    let slot = self.slot(Class::of(variable.ty));
                    self.bind(&variable.name, Binding::Register { ty: variable.ty, slot })
                }
            },
            Space::Shared => match self.code.shared.at(variable) {
                Some(at) => self.bind(&variable.name, Binding::Shared { at }),
                None => true,
            },
            Space::Local | Space::Param => {
                let bytes = self.bytes_of_local(variable)?;
                let at = self.local(bytes, align(variable));
                self.bind(&variable.name, Binding::Local { at, bytes })
            }
            Space::Global | Space::Const => {
                return Err(refuse_variable(
                    variable,
                    "declare .global and .const variables at module scope",
                ));
            }
        };
        if fresh {
            Ok(())
        } else {
            Err(refuse_variable(variable, format!("{} is declared twice", variable.name)))
        }
    }

    fn instruction(&mut self, i: &Instruction) -> Result<(), LoadError> {
        let guard = match &i.guard {
            None => Guard::Always,
            Some(guard) => {
                let operand = crate::ptx::ast::Operand::Register(guard.register.clone());
                let slot = self.source(i, &operand, crate::ptx::ast::ScalarType::Pred)?;
                if guard.negated { Guard::Unless(slot) } else { Guard::If(slot) }
            }
        };
        let form = std::iter::once(i.opcode.as_str()).chain(i.modifiers.iter().map(String::as_str));
        let form = form.collect::<Vec<_>>().join(".");
        self.begin(form.clone(), guard, i.line, &i.text);
        if let Some((family, picks)) = families()
            .filter(|family| family.opcode == i.opcode)
            .find_map(|family| family.matches(&i.modifiers).map(|picks| (family, picks)))
        {
            return (family.build)(self, i, &picks);
        }
        if self.table_form(i, &form)? {
            return Ok(());
        }
        Err(refuse(i, format!("{form} is not supported; see the list of accepted forms")))
    }

    /// Puts the places of labels into branches.
    fn finish(mut self) -> Result<Code, LoadError> {
        let labels = self.labels;
        let place = |label: &mut u32| *label = labels[*label as usize].unwrap_or(0);
        for instruction in &mut self.code.instructions {
            match &mut instruction.op {
                Op::Branch(target) => place(target),
                Op::BranchTable { targets, .. } => targets.iter_mut().for_each(place),
                _ => {}
            }
        }
        Ok(self.code)
    }
}
