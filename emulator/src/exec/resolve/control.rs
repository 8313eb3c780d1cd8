//! Branches, calls, returns.
use super::builder::{Binding, Builder, Formal, Placed, refuse};
use super::family::{Family, Picks, maybe, one};
use crate::exec::LoadError;
use crate::exec::forms::Operands;
use crate::exec::op::Op;
use crate::exec::regs::Class;
use crate::ptx::ast::{Instruction, Operand, ScalarType};

pub(super) static FAMILIES: &[Family] = &[
    Family { opcode: "bra", groups: &[maybe(&["uni"])], build: branch },
    Family { opcode: "brx", groups: &[one(&["idx"]), maybe(&["uni"])], build: branch_table },
    Family { opcode: "call", groups: &[maybe(&["uni"])], build: call },
    Family { opcode: "ret", groups: &[maybe(&["uni"])], build: ret },
    Family { opcode: "exit", groups: &[], build: exit },
    Family { opcode: "trap", groups: &[], build: trap },
    Family { opcode: "brkpt", groups: &[], build: trap },
    Family { opcode: "nanosleep", groups: &[one(&["u32"])], build: nothing },
    Family { opcode: "pmevent", groups: &[maybe(&["mask"])], build: nothing },
];

fn label(b: &mut Builder<'_>, i: &Instruction, name: &str) -> Result<u32, LoadError> {
    match b.lookup(name) {
        Some(Binding::Label(label)) => Ok(label),
        _ => Err(refuse(i, format!("label {name} is not defined"))),
    }
}

fn branch(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 1)?;
    let Operand::Symbol { name, .. } = b.operand(i, 0)? else { return Err(refuse(i, "a label is expected")) };
    let target = label(b, i, name)?;
    b.emit(Op::Branch(target));
    Ok(())
}

fn branch_table(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let index = b.source(i, b.operand(i, 0)?, ScalarType::U32)?;
    let Operand::Symbol { name, .. } = b.operand(i, 1)? else {
        return Err(refuse(i, "a list of labels is expected"));
    };
    let Some(Binding::Targets(names)) = b.lookup(name) else {
        return Err(refuse(i, format!("{name} is no .branchtargets list")));
    };
    let targets = names.iter().map(|name| label(b, i, name)).collect::<Result<_, _>>()?;
    b.emit(Op::BranchTable { index, targets });
    Ok(())
}

fn ret(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    match b.link {
        Some(link) => b.emit(Op::Return(link)),
        None => b.emit(Op::Exit),
    }
    Ok(())
}

fn exit(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    b.emit(Op::Exit);
    Ok(())
}

fn trap(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    b.emit(Op::Trap);
    Ok(())
}

fn nothing(b: &mut Builder<'_>, _: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.emit(Op::Nothing);
    Ok(())
}

/// `call (ret), f, (args)`: copies the arguments, jumps, copies the results.
fn call(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    let mut returns: &[Operand] = &[];
    let mut arguments: &[Operand] = &[];
    let mut function = None;
    for operand in &i.operands {
        match (operand, &function) {
            (Operand::List(items), None) => returns = items,
            (Operand::List(items), Some(_)) => arguments = items,
            (Operand::Symbol { name, .. }, None) => function = Some(name),
            _ => return Err(refuse(i, "only direct calls are supported")),
        }
    }
    let name = function.ok_or_else(|| refuse(i, "only direct calls are supported"))?;
    let Some(Placed { start, link, params, returns: results }) = b.placed.get(name).cloned() else {
        return Err(refuse(i, format!("{name} is not defined in this module")));
    };
    if params.len() != arguments.len() || results.len() != returns.len() {
        return Err(refuse(
            i,
            format!("{name} takes {} arguments and returns {}", params.len(), results.len()),
        ));
    }
    for (formal, argument) in params.iter().zip(arguments) {
        pass(b, i, *formal, argument)?;
    }
    b.emit(Op::Call { target: start, link });
    for (formal, result) in results.iter().zip(returns) {
        receive(b, i, *formal, result)?;
    }
    Ok(())
}

/// Local memory that a call names.
fn local(b: &mut Builder<'_>, i: &Instruction, operand: &Operand, bytes: u32) -> Result<u32, LoadError> {
    let Operand::Symbol { name, .. } = operand else {
        return Err(refuse(i, "a .param variable is expected"));
    };
    match b.lookup(name) {
        Some(Binding::Local { at, bytes: size }) if size >= bytes => Ok(at),
        _ => Err(refuse(i, format!("{name} is no .param variable of at least {bytes} bytes"))),
    }
}

fn pass(b: &mut Builder<'_>, i: &Instruction, formal: Formal, argument: &Operand) -> Result<(), LoadError> {
    match formal {
        Formal::Memory { at, bytes } => {
            let src = local(b, i, argument, bytes)?;
            b.emit(Op::CopyLocal { dst: at, src, bytes });
            Ok(())
        }
        Formal::Register { ty, slot } => {
            let src = b.source(i, argument, ty)?;
            copy(b, i, ty, slot, src)
        }
    }
}

fn receive(b: &mut Builder<'_>, i: &Instruction, formal: Formal, result: &Operand) -> Result<(), LoadError> {
    match formal {
        Formal::Memory { at, bytes } => {
            let dst = local(b, i, result, bytes)?;
            b.emit(Op::CopyLocal { dst, src: at, bytes });
            Ok(())
        }
        Formal::Register { ty, slot } => {
            let dst = b.destination(i, result, ty)?;
            copy(b, i, ty, dst, slot)
        }
    }
}

fn copy(b: &mut Builder<'_>, i: &Instruction, ty: ScalarType, dst: u32, src: u32) -> Result<(), LoadError> {
    let form = match Class::of(ty) {
        Class::Narrow => "mov.b32",
        Class::Wide => "mov.b64",
        Class::Pred => "mov.pred",
    };
    b.arithmetic(i, form, Operands { dst, src: [src, 0, 0, 0], ..Operands::default() })
}
