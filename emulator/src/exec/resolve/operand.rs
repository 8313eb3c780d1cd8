//! Operands to slots.
use super::builder::{Binding, Builder, refuse};
use crate::exec::LoadError;
use crate::exec::forms::{self, Operands};
use crate::exec::op::{Address, Op, Space};
use crate::exec::regs::Class;
use crate::exec::special::Special;
use crate::ptx::ast::{AddressBase, Instruction, Operand, ScalarType};

impl Builder<'_> {
    /// The operand of that number.
    pub(crate) fn operand<'i>(&self, i: &'i Instruction, k: usize) -> Result<&'i Operand, LoadError> {
        i.operands.get(k).ok_or_else(|| refuse(i, format!("operand {} is missing", k + 1)))
    }

    /// Refuses an instruction that has other than `counts` operands.
    pub(crate) fn expect(&self, i: &Instruction, least: usize, most: usize) -> Result<(), LoadError> {
        let count = i.operands.len();
        if (least..=most).contains(&count) {
            return Ok(());
        }
        Err(refuse(i, format!("{} takes {least} to {most} operands, not {count}", i.opcode)))
    }

    /// A register by name.
    fn register(&mut self, i: &Instruction, name: &str) -> Result<(ScalarType, u32), LoadError> {
        match self.lookup(name) {
            Some(Binding::Register { ty, slot }) => Ok((ty, slot)),
            Some(_) => Err(refuse(i, format!("{name} is no register"))),
            None => Err(refuse(i, format!("register {name} is not declared"))),
        }
    }

    /// The slot of a source of that type.
    pub(crate) fn source(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        ty: ScalarType,
    ) -> Result<u32, LoadError> {
        match operand {
            Operand::Register(name) => {
                let (declared, slot) = self.register(i, name)?;
                self.narrowed(i, name, declared, slot, ty)
            }
            Operand::Special(name) => self.special_source(i, name, ty),
            Operand::Symbol { name, offset } => {
                let (_, at) = self.symbol(i, name)?;
                self.constant(i, i128::from(at.wrapping_add_signed(*offset)), ty)
            }
            Operand::Integer(value) => match ty {
                ScalarType::F32 => Ok(self.narrow((*value as f32).to_bits())),
                ScalarType::F64 => Ok(self.wide((*value as f64).to_bits())),
                _ => self.constant(i, *value, ty),
            },
            Operand::Float32(bits) => match ty {
                ScalarType::F64 => Ok(self.wide(f64::from(f32::from_bits(*bits)).to_bits())),
                _ if Class::of(ty) == Class::Narrow => Ok(self.narrow(*bits)),
                _ => Err(refuse(i, "a 32-bit float literal does not fit this operand")),
            },
            Operand::Float64(bits) => match ty {
                ScalarType::F32 => Ok(self.narrow((f64::from_bits(*bits) as f32).to_bits())),
                _ if Class::of(ty) == Class::Wide => Ok(self.wide(*bits)),
                _ => Err(refuse(i, "a 64-bit float literal does not fit this operand")),
            },
            _ => Err(refuse(i, format!("{operand:?} cannot be read as a value here"))),
        }
    }

    /// A register as a source of type `ty`: of the same width, or wider where the instruction allows it.
    fn narrowed(
        &mut self,
        i: &Instruction,
        name: &str,
        declared: ScalarType,
        slot: u32,
        ty: ScalarType,
    ) -> Result<u32, LoadError> {
        let relaxed = matches!(i.opcode.as_str(), "cvt" | "st");
        let fits = declared.bytes() == ty.bytes()
            || (relaxed && declared.bytes() > ty.bytes())
            // 8-bit values are kept in 16-bit registers.
            || (ty.bytes() == 1 && declared.bytes() == 2);
        if Class::of(declared) == Class::Pred || Class::of(ty) == Class::Pred {
            let both = Class::of(declared) == Class::of(ty);
            return if both { Ok(slot) } else { Err(self.mismatch(i, name, declared, ty)) };
        }
        if !fits {
            return Err(self.mismatch(i, name, declared, ty));
        }
        if Class::of(declared) == Class::Wide && Class::of(ty) == Class::Narrow {
            let low = self.slot(Class::Narrow);
            self.arithmetic(
                i,
                "low 32 of 64",
                Operands { dst: low, src: [slot, 0, 0, 0], ..Operands::default() },
            )?;
            return Ok(low);
        }
        Ok(slot)
    }

    fn mismatch(&self, i: &Instruction, name: &str, declared: ScalarType, ty: ScalarType) -> LoadError {
        refuse(i, format!("register {name} is declared {declared:?}, the instruction needs {ty:?}"))
    }

    /// A form of the table, by name.
    pub(crate) fn arithmetic(
        &mut self,
        i: &Instruction,
        name: &str,
        operands: Operands,
    ) -> Result<(), LoadError> {
        let form = forms::find(name).ok_or_else(|| refuse(i, format!("form {name} is not known")))?;
        self.emit(Op::Arithmetic(form.run(), operands));
        Ok(())
    }

    /// An integer constant as a value of that type.
    fn constant(&mut self, i: &Instruction, value: i128, ty: ScalarType) -> Result<u32, LoadError> {
        match Class::of(ty) {
            Class::Wide if ty.bytes() == 8 => Ok(self.wide(value as u64)),
            Class::Narrow => Ok(self.narrow(value as u32)),
            Class::Pred => Ok(self.pred(value != 0)),
            Class::Wide => Err(refuse(i, "128-bit operands are not supported")),
        }
    }

    fn special_source(&mut self, i: &Instruction, name: &str, ty: ScalarType) -> Result<u32, LoadError> {
        let special = Special::from_name(name)
            .ok_or_else(|| refuse(i, format!("special register {name} is not known here")))?;
        let slot = self.special(special);
        match (special.class(), Class::of(ty)) {
            (Class::Narrow, Class::Narrow) | (Class::Wide, Class::Wide) => Ok(slot),
            (Class::Narrow, Class::Wide) => {
                let wide = self.slot(Class::Wide);
                self.arithmetic(
                    i,
                    "cvt.u64.u32",
                    Operands { dst: wide, src: [slot, 0, 0, 0], ..Operands::default() },
                )?;
                Ok(wide)
            }
            _ => Err(refuse(i, format!("{name} does not fit a {ty:?} operand"))),
        }
    }

    /// The slot of a destination of that type; `_` gives a register nobody reads.
    pub(crate) fn destination(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        ty: ScalarType,
    ) -> Result<u32, LoadError> {
        match operand {
            Operand::Register(name) => {
                let (declared, slot) = self.register(i, name)?;
                let relaxed = matches!(i.opcode.as_str(), "cvt" | "ld" | "ldu");
                let same = Class::of(declared) == Class::of(ty);
                let fits = declared.bytes() == ty.bytes()
                    || (relaxed && declared.bytes() > ty.bytes())
                    || (ty.bytes() == 1 && declared.bytes() == 2);
                if same && fits { Ok(slot) } else { Err(self.mismatch(i, name, declared, ty)) }
            }
            Operand::Sink => Ok(self.slot(Class::of(ty))),
            _ => Err(refuse(i, format!("{operand:?} cannot be written to"))),
        }
    }

    /// The declared type of a register operand.
    pub(crate) fn declared(&mut self, i: &Instruction, operand: &Operand) -> Result<ScalarType, LoadError> {
        match operand {
            Operand::Register(name) => Ok(self.register(i, name)?.0),
            _ => Err(refuse(i, format!("{operand:?} is no register"))),
        }
    }

    /// A predicate source: its slot, and whether it is negated.
    pub(crate) fn predicate(&mut self, i: &Instruction, operand: &Operand) -> Result<(u32, bool), LoadError> {
        match operand {
            Operand::Negated(name) => {
                let slot = self.source(i, &Operand::Register(name.clone()), ScalarType::Pred)?;
                Ok((slot, true))
            }
            _ => Ok((self.source(i, operand, ScalarType::Pred)?, false)),
        }
    }

    /// A predicate pair `p|q`, or `p` alone.
    pub(crate) fn predicate_pair(
        &mut self,
        i: &Instruction,
        operand: &Operand,
    ) -> Result<(u32, u32), LoadError> {
        match operand {
            Operand::Pair(p, q) => {
                Ok((self.destination(i, p, ScalarType::Pred)?, self.destination(i, q, ScalarType::Pred)?))
            }
            _ => Ok((self.destination(i, operand, ScalarType::Pred)?, self.slot(Class::Pred))),
        }
    }

    /// The space and address of a variable.
    pub(crate) fn symbol(&mut self, i: &Instruction, name: &str) -> Result<(Space, u64), LoadError> {
        match self.lookup(name) {
            Some(Binding::Shared { at }) => Ok((Space::Shared, u64::from(at))),
            Some(Binding::Local { at, .. }) => Ok((Space::Local, u64::from(at))),
            Some(Binding::Param { at }) => Ok((Space::Param, u64::from(at))),
            Some(Binding::Global { address }) => Ok((Space::Global, address)),
            Some(_) => Err(refuse(i, format!("{name} has no address"))),
            None => Err(refuse(i, format!("{name} is not declared"))),
        }
    }

    /// An address in `space`, which a symbol may make more precise: device functions keep `.param` in local memory.
    pub(crate) fn address(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        space: Space,
    ) -> Result<(Space, Address), LoadError> {
        let Operand::Address { base, offset } = operand else {
            return Err(refuse(i, format!("an address is expected, not {operand:?}")));
        };
        match base {
            AddressBase::Register(name) => {
                let (ty, slot) = self.register(i, name)?;
                let class = Class::of(ty);
                if class == Class::Pred || ty.bytes() < 4 {
                    return Err(refuse(i, format!("register {name} is too narrow for an address")));
                }
                Ok((space, Address { class, slot, offset: *offset }))
            }
            AddressBase::Symbol(name) => {
                let (found, at) = self.symbol(i, name)?;
                let agrees = match space {
                    Space::Generic => found == Space::Global,
                    Space::Param => matches!(found, Space::Param | Space::Local),
                    _ => found == space,
                };
                if !agrees {
                    return Err(refuse(
                        i,
                        format!("{name} lies in {found:?} space, the instruction names {space:?}"),
                    ));
                }
                Ok((found, self.fixed(at.wrapping_add_signed(*offset))))
            }
            AddressBase::Absolute => Ok((space, self.fixed(*offset as u64))),
        }
    }

    /// An address known now.
    fn fixed(&mut self, at: u64) -> Address {
        Address { class: Class::Wide, slot: self.wide(0), offset: at as i64 }
    }
}
