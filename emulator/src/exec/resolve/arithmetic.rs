//! Arithmetic forms of the table, and the few families around them: moves of addresses, vectors and clocks.
use super::builder::{Builder, refuse};
use super::family::{Family, Picks, maybe, one};
use crate::exec::LoadError;
use crate::exec::forms::{self, Operands, connective};
use crate::exec::op::{Clock, Op, Space, window};
use crate::exec::regs::Class;
use crate::ptx::ast::{Instruction, Operand, ScalarType};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        opcode: "cvta",
        groups: &[
            maybe(&["to"]),
            one(&["global", "shared", "shared::cta", "local", "const", "param", "param::entry"]),
            one(&["u64"]),
        ],
        build: convert_address,
    },
    Family {
        opcode: "isspacep",
        groups: &[one(&["global", "shared", "shared::cta", "local", "const", "param", "param::entry"])],
        build: is_space,
    },
];

/// The first address of the window of a space; nothing for global and const, whose addresses are generic.
fn window_of(space: &str) -> Option<u64> {
    match space {
        "shared" | "shared::cta" => Some(window::SHARED),
        "local" => Some(window::LOCAL),
        "param" | "param::entry" => Some(window::PARAM),
        _ => None,
    }
}

fn convert_address(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let dst = b.destination(i, b.operand(i, 0)?, ScalarType::U64)?;
    let src = b.source(i, b.operand(i, 1)?, ScalarType::U64)?;
    let base = b.wide(picks[1].and_then(window_of).unwrap_or(0));
    let form = if picks[0].is_some() { "sub.u64" } else { "add.u64" };
    b.arithmetic(i, form, Operands { dst, src: [src, base, 0, 0], ..Operands::default() })
}

fn is_space(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let dst = b.destination(i, b.operand(i, 0)?, ScalarType::Pred)?;
    let src = b.source(i, b.operand(i, 1)?, ScalarType::U64)?;
    let (form, bound) = match picks[0].and_then(window_of) {
        Some(base) => ("address is in window", base),
        None => ("setp.lt.u64", window::PARAM),
    };
    let bound = b.wide(bound);
    let dst2 = b.slot(Class::Pred);
    b.arithmetic(i, form, Operands { dst, dst2, src: [src, bound, 0, 0], extra: connective::NONE })
}

impl Builder<'_> {
    /// Translates an instruction of the table; false if no form has that name.
    pub(super) fn table_form(&mut self, i: &Instruction, name: &str) -> Result<bool, LoadError> {
        match i.opcode.as_str() {
            "setp" => return self.set_predicate(i),
            "mov" => return self.movement(i, name),
            "lop3" if name == "lop3.b32" => return self.lop3(i).map(|()| true),
            _ => {}
        }
        self.plain_form(i, name)
    }

    /// Translates an instruction whose operands are those of a form of the table; false if there is none.
    pub(super) fn plain_form(&mut self, i: &Instruction, name: &str) -> Result<bool, LoadError> {
        let Some(form) = forms::find(name) else { return Ok(false) };
        let count = form.src.len() + 1;
        self.expect(i, count, count)?;
        let mut operands = Operands::default();
        for (k, ty) in form.src.iter().enumerate() {
            let operand = self.operand(i, k + 1)?;
            operands.src[k] = self.source(i, operand, *ty)?;
        }
        operands.dst = self.destination(i, self.operand(i, 0)?, form.dst)?;
        let carries =
            matches!(i.opcode.as_str(), "addc" | "subc" | "madc") || i.modifiers.iter().any(|m| m == "cc");
        if carries {
            operands.dst2 = self.carry();
        }
        self.emit(Op::Arithmetic(form.run(), operands));
        Ok(true)
    }

    /// The form's name with the connective taken out: `setp.lt.and.f32` to `setp.lt.f32` and `and`.
    fn without_connective(&self, i: &Instruction) -> Option<(String, Option<u32>)> {
        let found = i.modifiers.get(1).and_then(|modifier| match modifier.as_str() {
            "and" => Some(connective::AND),
            "or" => Some(connective::OR),
            "xor" => Some(connective::XOR),
            _ => None,
        });
        let kept = i.modifiers.iter().enumerate().filter(|(k, _)| found.is_none() || *k != 1);
        let kept = kept.map(|(_, modifier)| modifier.as_str());
        let name = std::iter::once(i.opcode.as_str()).chain(kept).collect::<Vec<_>>().join(".");
        Some((name, found))
    }

    fn set_predicate(&mut self, i: &Instruction) -> Result<bool, LoadError> {
        let Some((name, joined)) = self.without_connective(i) else { return Ok(false) };
        let Some(form) = forms::find(&name) else { return Ok(false) };
        let count = if joined.is_some() { 4 } else { 3 };
        self.expect(i, count, count)?;
        let a = self.source(i, self.operand(i, 1)?, form.src[0])?;
        let b = self.source(i, self.operand(i, 2)?, form.src[1])?;
        let (third, extra) = match joined {
            Some(connective) => {
                let (slot, negated) = self.predicate(i, self.operand(i, 3)?)?;
                (slot, connective | if negated { connective::NEGATED } else { 0 })
            }
            None => (self.pred(true), connective::NONE),
        };
        let (dst, dst2) = self.predicate_pair(i, self.operand(i, 0)?)?;
        self.emit(Op::Arithmetic(form.run(), Operands { dst, dst2, src: [a, b, third, 0], extra }));
        Ok(true)
    }

    fn lop3(&mut self, i: &Instruction) -> Result<(), LoadError> {
        self.expect(i, 5, 5)?;
        let Operand::Integer(table @ 0..=255) = self.operand(i, 4)? else {
            return Err(refuse(i, "the table of lop3 must be a literal from 0 to 255"));
        };
        let mut src = [0; 4];
        for (k, slot) in src.iter_mut().take(3).enumerate() {
            *slot = self.source(i, self.operand(i, k + 1)?, ScalarType::B32)?;
        }
        let dst = self.destination(i, self.operand(i, 0)?, ScalarType::B32)?;
        self.arithmetic(i, "lop3.b32", Operands { dst, src, extra: *table as u32, ..Operands::default() })
    }

    fn movement(&mut self, i: &Instruction, name: &str) -> Result<bool, LoadError> {
        self.expect(i, 2, 2)?;
        match (self.operand(i, 0)?, self.operand(i, 1)?) {
            (Operand::Vector(parts), source) => self.take_apart(i, name, parts, source).map(|()| true),
            (destination, Operand::Vector(parts)) => {
                self.put_together(i, name, destination, parts).map(|()| true)
            }
            (destination, Operand::Special(special)) if clock(special).is_some() => {
                self.read_clock(i, destination, special).map(|()| true)
            }
            (destination, Operand::Symbol { name: symbol, offset }) => {
                self.address_of(i, name, destination, symbol, *offset).map(|()| true)
            }
            _ => self.plain_form(i, name),
        }
    }

    fn read_clock(&mut self, i: &Instruction, destination: &Operand, name: &str) -> Result<(), LoadError> {
        let clock = clock(name).ok_or_else(|| refuse(i, format!("{name} is no clock")))?;
        let wide = matches!(clock, Clock::Wide | Clock::Timer);
        let dst = self.destination(i, destination, if wide { ScalarType::U64 } else { ScalarType::U32 })?;
        self.emit(Op::ReadClock { clock, dst });
        Ok(())
    }

    /// `mov.u64 %rd, variable`: the address in the variable's own space.
    fn address_of(
        &mut self,
        i: &Instruction,
        form: &str,
        destination: &Operand,
        symbol: &str,
        offset: i64,
    ) -> Result<(), LoadError> {
        let (space, at) = self.symbol(i, symbol)?;
        let at = at.wrapping_add_signed(offset);
        let wide = matches!(form, "mov.u64" | "mov.b64" | "mov.s64");
        if !wide && space == Space::Global {
            return Err(refuse(i, "global addresses have 64 bits"));
        }
        let (ty, src) =
            if wide { (ScalarType::U64, self.wide(at)) } else { (ScalarType::U32, self.narrow(at as u32)) };
        let dst = self.destination(i, destination, ty)?;
        self.arithmetic(i, form, Operands { dst, src: [src, 0, 0, 0], ..Operands::default() })
    }

    fn put_together(
        &mut self,
        i: &Instruction,
        name: &str,
        destination: &Operand,
        parts: &[Operand],
    ) -> Result<(), LoadError> {
        let (form, whole, part) = match (name, parts.len()) {
            ("mov.b32", 2) => ("mov.b32 d, {a, b}", ScalarType::B32, ScalarType::B16),
            ("mov.b64", 2) => ("mov.b64 d, {a, b}", ScalarType::B64, ScalarType::B32),
            ("mov.b64", 4) => ("mov.b64 d, {a, b, c, e}", ScalarType::B64, ScalarType::B16),
            _ => return Err(refuse(i, format!("{name} of {} parts is not supported", parts.len()))),
        };
        let mut src = [0; 4];
        for (slot, operand) in src.iter_mut().zip(parts) {
            *slot = self.source(i, operand, part)?;
        }
        let dst = self.destination(i, destination, whole)?;
        self.arithmetic(i, form, Operands { dst, src, ..Operands::default() })
    }

    fn take_apart(
        &mut self,
        i: &Instruction,
        name: &str,
        parts: &[Operand],
        source: &Operand,
    ) -> Result<(), LoadError> {
        let (form, whole, part) = match (name, parts.len()) {
            ("mov.b32", 2) => ("mov.b32 {d, e}, a", ScalarType::B32, ScalarType::B16),
            ("mov.b64", 2) => ("mov.b64 {d, e}, a", ScalarType::B64, ScalarType::B32),
            ("mov.b64", 4) => ("mov.b64 {d, e, f, g}, a", ScalarType::B64, ScalarType::B16),
            _ => return Err(refuse(i, format!("{name} into {} parts is not supported", parts.len()))),
        };
        let src = self.source(i, source, whole)?;
        let mut to = [0; 4];
        for (slot, operand) in to.iter_mut().zip(parts) {
            *slot = self.destination(i, operand, part)?;
        }
        let operands = Operands { dst: to[0], dst2: to[1], src: [src, to[2], to[3], 0], extra: 0 };
        self.arithmetic(i, form, operands)
    }
}

fn clock(name: &str) -> Option<Clock> {
    Some(match name {
        "%clock" => Clock::Low,
        "%clock_hi" => Clock::High,
        "%clock64" => Clock::Wide,
        "%globaltimer" => Clock::Timer,
        "%globaltimer_lo" => Clock::TimerLow,
        "%globaltimer_hi" => Clock::TimerHigh,
        _ => return None,
    })
}
