//! Declarations of variables, registers and parameters.

use super::super::ast::{Initial, Linkage, ScalarType, Space, Variable};
use super::super::lexer::Position;
use super::{Kind, Parsed, Parser, limit};

/// What the declarators of one statement share.
#[derive(Clone, Copy)]
struct Head {
    space: Space,
    ty: ScalarType,
    vector: u8,
    align: Option<u32>,
    linkage: Linkage,
}

impl Head {
    fn element_bytes(self) -> u64 {
        u64::from(self.ty.bytes()) * u64::from(self.vector)
    }
}

/// The state space a directive names, if it names one.
pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        "reg" => Space::Reg,
        "param" => Space::Param,
        "shared" => Space::Shared,
        "global" => Space::Global,
        "const" => Space::Const,
        "local" => Space::Local,
        _ => return None,
    })
}

impl<'a> Parser<'a> {
    /// Whether a declaration starts here.
    pub(super) fn at_declaration(&self) -> bool {
        matches!(self.token.kind, Kind::Dotted(word) if space(word).is_some())
    }

    /// `.space … name, name…;`
    pub(super) fn declaration(&mut self, linkage: Linkage) -> Parsed<Vec<Variable>> {
        let head = self.head(linkage)?;
        let mut variables = Vec::new();
        loop {
            variables.push(self.declarator(head)?);
            if !self.eat_punct(',')? {
                self.expect_punct(';')?;
                return Ok(variables);
            }
        }
    }

    /// One parameter of a function; it may have no initialiser.
    pub(super) fn parameter(&mut self) -> Parsed<Variable> {
        let head = self.head(Linkage::Private)?;
        match head.space {
            Space::Param | Space::Reg => self.declarator(head),
            _ => Err(self.error("a parameter is `.param` or `.reg`")),
        }
    }

    fn head(&mut self, linkage: Linkage) -> Parsed<Head> {
        let space = match self.token.kind {
            Kind::Dotted(word) => space(word),
            _ => None,
        };
        let Some(space) = space else {
            return Err(self.expected("a state space such as `.param` or `.reg`"));
        };
        self.take()?;
        let (mut align, mut vector) = (None, 1);
        loop {
            match self.token.kind {
                Kind::Dotted("align") => align = Some(self.alignment()?),
                Kind::Dotted("v2") => vector = self.take().map(|_| 2)?,
                Kind::Dotted("v4") => vector = self.take().map(|_| 4)?,
                Kind::Dotted("attribute") => self.managed()?,
                _ => break,
            }
        }
        let ty = match self.token.kind {
            Kind::Dotted(word) => ScalarType::from_name(word),
            _ => None,
        };
        let Some(ty) = ty else {
            return Err(self.expected("a type such as `.f32`"));
        };
        self.take()?;
        if ty == ScalarType::Pred && (space != Space::Reg || vector != 1) {
            return Err(self.error("`.pred` is for scalar registers only"));
        }
        if space == Space::Param && self.eat_dotted("ptr")? {
            self.pointer_attributes()?;
        }
        Ok(Head { space, ty, vector, align, linkage })
    }

    fn alignment(&mut self) -> Parsed<u32> {
        self.expect_dotted("align")?;
        let at = self.token.at;
        let align = self.expect_u32("an alignment")?;
        if align.is_power_of_two() && align <= 1 << 16 {
            Ok(align)
        } else {
            Err(self.error_at(at, "an alignment is a power of two of at most 65536"))
        }
    }

    /// `.attribute(.managed)`: the host may touch the variable too, which changes nothing here.
    fn managed(&mut self) -> Parsed<()> {
        self.expect_dotted("attribute")?;
        self.expect_punct('(')?;
        self.expect_dotted("managed")?;
        self.expect_punct(')')
    }

    /// `.ptr.global.align 16`: what a pointer parameter points to, a hint to ptxas.
    fn pointer_attributes(&mut self) -> Parsed<()> {
        if matches!(self.token.kind, Kind::Dotted("const" | "global" | "local" | "shared")) {
            self.take()?;
        }
        if self.at_dotted("align") {
            self.alignment()?;
        }
        Ok(())
    }

    fn declarator(&mut self, head: Head) -> Parsed<Variable> {
        let at = self.token.at;
        let name = self.expect_name("a name")?;
        let count = if head.space == Space::Reg { self.register(name, at)? } else { None };
        let array = if self.at_punct('[') { Some(self.dimensions(head)?) } else { None };
        let mut init = Vec::new();
        if matches!(head.space, Space::Global | Space::Const) && self.eat_punct('=')? {
            self.initialiser(&mut init, 0)?;
            self.check_initialiser_length(head, array.as_deref(), init.len(), at)?;
        }
        Ok(Variable {
            space: head.space,
            ty: head.ty,
            vector: head.vector,
            align: head.align,
            name: name.to_owned(),
            count,
            array,
            linkage: head.linkage,
            init,
            line: at.line,
        })
    }

    fn register(&mut self, name: &'a str, at: Position) -> Parsed<Option<u32>> {
        let mut count = None;
        if self.eat_punct('<')? {
            count = Some(self.expect_u32("the number of registers")?);
            self.expect_punct('>')?;
        }
        if self.scopes.declare(name, count) > limit::REGISTERS {
            return Err(self.error_at(at, "the function declares more than 2^20 registers"));
        }
        Ok(count)
    }

    fn dimensions(&mut self, head: Head) -> Parsed<Vec<u64>> {
        let at = self.token.at;
        if head.space == Space::Reg {
            return Err(self.error("a register is no array: write a range `%r<4>`"));
        }
        let (mut dimensions, mut bytes, mut open) = (Vec::new(), head.element_bytes(), false);
        while self.eat_punct('[')? {
            if self.eat_punct(']')? {
                // Only the first dimension may be left open.
                if open || !dimensions.is_empty() {
                    return Err(self.error_at(at, "only a single dimension may be left open: `name[]`"));
                }
                open = true;
                continue;
            }
            let size = u64::try_from(self.integer()?).unwrap_or(u64::MAX);
            self.expect_punct(']')?;
            bytes = bytes.saturating_mul(size);
            if open || dimensions.len() >= limit::OPERAND_DEPTH as usize || bytes > limit::VARIABLE_BYTES {
                return Err(self.error_at(at, "this array is larger than any device's memory"));
            }
            dimensions.push(size);
        }
        Ok(dimensions)
    }

    fn check_initialiser_length(
        &self,
        head: Head,
        array: Option<&[u64]>,
        values: usize,
        at: Position,
    ) -> Parsed<()> {
        let room = match array {
            Some([]) => return Ok(()),
            Some(dimensions) => {
                dimensions.iter().fold(u64::from(head.vector), |all, size| all.saturating_mul(*size))
            }
            None => u64::from(head.vector),
        };
        if values as u64 > room {
            return Err(self.error_at(at, format!("{values} initial values for {room} elements")));
        }
        Ok(())
    }

    fn initialiser(&mut self, values: &mut Vec<Initial>, depth: u32) -> Parsed<()> {
        if depth > limit::OPERAND_DEPTH {
            return Err(self.error("the initialiser is nested too deeply"));
        }
        if !self.eat_punct('{')? {
            values.push(self.initial()?);
            return Ok(());
        }
        if self.eat_punct('}')? {
            return Ok(());
        }
        loop {
            self.initialiser(values, depth + 1)?;
            if !self.eat_punct(',')? {
                return self.expect_punct('}');
            }
        }
    }

    fn initial(&mut self) -> Parsed<Initial> {
        match self.token.kind {
            Kind::Float32(bits) => self.take().map(|_| Initial::Float32(bits)),
            Kind::Float64(bits) => self.take().map(|_| Initial::Float64(bits)),
            Kind::Name("generic") => {
                self.take()?;
                self.expect_punct('(')?;
                let (name, offset) = self.symbol_and_offset()?;
                self.expect_punct(')')?;
                let offset = offset.wrapping_add(self.optional_offset()?);
                Ok(Initial::Symbol { name, offset, generic: true })
            }
            Kind::Name("WARP_SZ") => self.integer().map(Initial::Integer),
            Kind::Name(_) => {
                let (name, offset) = self.symbol_and_offset()?;
                Ok(Initial::Symbol { name, offset, generic: false })
            }
            _ => match self.negative_float()? {
                Some(bits) => Ok(Initial::Float64(bits)),
                None => self.integer().map(Initial::Integer),
            },
        }
    }

    fn symbol_and_offset(&mut self) -> Parsed<(String, i64)> {
        let name = self.expect_name("a symbol")?.to_owned();
        Ok((name, self.optional_offset()?))
    }
}
