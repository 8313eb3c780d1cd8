//! Operands of instructions.

use super::super::ast::{AddressBase, Operand};
use super::{Kind, Parsed, Parser, limit};

/// Whether a name with `%` is a special register rather than a declared one.
fn is_special(name: &str) -> bool {
    const EXACT: &[&str] = &[
        "tid",
        "ntid",
        "ctaid",
        "nctaid",
        "laneid",
        "warpid",
        "nwarpid",
        "smid",
        "nsmid",
        "gridid",
        "clock",
        "clock_hi",
        "clock64",
        "globaltimer",
        "globaltimer_lo",
        "globaltimer_hi",
        "dynamic_smem_size",
        "total_smem_size",
        "aggr_smem_size",
        "clusterid",
        "nclusterid",
        "cluster_ctaid",
        "cluster_nctaid",
        "cluster_ctarank",
        "cluster_nctarank",
        "is_explicit_cluster",
        "current_graph_exec",
    ];
    const PREFIXES: &[&str] = &["lanemask_", "reserved_smem_offset_"];
    const NUMBERED: &[&str] = &["pm", "envreg"];
    let Some(word) = name.strip_prefix('%') else {
        return false;
    };
    let numbered = |prefix: &&str| {
        let tail = word.strip_prefix(*prefix).map(|tail| tail.strip_suffix("_64").unwrap_or(tail));
        tail.is_some_and(|tail| !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit()))
    };
    EXACT.contains(&word)
        || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        || NUMBERED.iter().any(numbered)
}

impl<'a> Parser<'a> {
    /// Operands up to the semicolon, which is left in place.
    pub(super) fn operands(&mut self) -> Parsed<Vec<Operand>> {
        let mut room = limit::OPERANDS;
        if self.at_punct(';') {
            return Ok(Vec::new());
        }
        self.list(&mut room, 0)
    }

    fn list(&mut self, room: &mut usize, depth: u32) -> Parsed<Vec<Operand>> {
        let mut operands = Vec::new();
        loop {
            operands.push(self.operand(room, depth)?);
            if !self.eat_punct(',')? {
                return Ok(operands);
            }
        }
    }

    fn operand(&mut self, room: &mut usize, depth: u32) -> Parsed<Operand> {
        if depth > limit::OPERAND_DEPTH {
            return Err(self.error("operands are nested too deeply"));
        }
        *room =
            room.checked_sub(1).ok_or_else(|| self.error("the instruction has more than 512 operands"))?;
        match self.token.kind {
            Kind::Name("_") => self.sink_or_pair(room, depth),
            Kind::Name("WARP_SZ") => self.integer().map(Operand::Integer),
            Kind::Name(_) => self.named(room, depth),
            Kind::Punct('[') => self.address(room, depth),
            Kind::Punct('{') => self.delimited('{', '}', room, depth).map(Operand::Vector),
            Kind::Punct('(') if self.starts_list() => {
                self.delimited('(', ')', room, depth).map(Operand::List)
            }
            Kind::Punct('!') if matches!(self.following.kind, Kind::Name(_)) => {
                self.take()?;
                Ok(Operand::Negated(self.expect_name("a predicate")?.to_owned()))
            }
            Kind::Float32(bits) => self.take().map(|_| Operand::Float32(bits)),
            Kind::Float64(bits) => self.take().map(|_| Operand::Float64(bits)),
            _ => match self.negative_float()? {
                Some(bits) => Ok(Operand::Float64(bits)),
                None => self.integer().map(Operand::Integer),
            },
        }
    }

    /// `(` opens a call's list unless a constant expression follows.
    fn starts_list(&self) -> bool {
        matches!(self.following.kind, Kind::Name(_) | Kind::Punct(')'))
    }

    fn delimited(&mut self, open: char, close: char, room: &mut usize, depth: u32) -> Parsed<Vec<Operand>> {
        self.expect_punct(open)?;
        if self.eat_punct(close)? {
            return Ok(Vec::new());
        }
        let operands = self.list(room, depth + 1)?;
        self.expect_punct(close)?;
        Ok(operands)
    }

    fn sink_or_pair(&mut self, room: &mut usize, depth: u32) -> Parsed<Operand> {
        self.take()?;
        self.pair_or(Operand::Sink, room, depth)
    }

    /// `first|second` if a bar follows.
    fn pair_or(&mut self, first: Operand, room: &mut usize, depth: u32) -> Parsed<Operand> {
        if !self.eat_punct('|')? {
            return Ok(first);
        }
        let second = self.operand(room, depth + 1)?;
        Ok(Operand::Pair(Box::new(first), Box::new(second)))
    }

    fn named(&mut self, room: &mut usize, depth: u32) -> Parsed<Operand> {
        let name = self.qualified_name()?;
        if is_special(&name.base) {
            return Ok(Operand::Special(name.whole));
        }
        if self.is_register(&name.base) {
            return self.pair_or(Operand::Register(name.whole), room, depth);
        }
        let offset = self.optional_offset()?;
        Ok(Operand::Symbol { name: name.whole, offset })
    }

    fn is_register(&self, name: &str) -> bool {
        name.starts_with('%') || self.scopes.is_register(name)
    }

    /// A name with its component: `%tid.x`, `%v.y`.
    fn qualified_name(&mut self) -> Parsed<QualifiedName> {
        let base = self.expect_name("a name")?.to_owned();
        let mut whole = base.clone();
        if let Kind::Dotted(component) = self.token.kind {
            if !matches!(component, "x" | "y" | "z" | "w" | "r" | "g" | "b" | "a") {
                return Err(self.expected("a component `.x`, `.y`, `.z` or `.w`"));
            }
            self.take()?;
            whole.push('.');
            whole.push_str(component);
        }
        Ok(QualifiedName { base, whole })
    }

    fn address(&mut self, room: &mut usize, depth: u32) -> Parsed<Operand> {
        self.expect_punct('[')?;
        let (base, offset) = match self.token.kind {
            Kind::Name(name) if name != "WARP_SZ" => {
                let name = self.qualified_name()?;
                let register = self.is_register(&name.base);
                let base = if register { AddressBase::Register } else { AddressBase::Symbol };
                (base(name.whole), self.optional_offset()?)
            }
            _ => {
                let at = self.token.at;
                // Addresses above 2^63 wrap to negative offsets, as the hardware adds them.
                let value = self.integer()?;
                let offset = i64::try_from(value).or_else(|_| u64::try_from(value).map(u64::cast_signed));
                (
                    AddressBase::Absolute,
                    offset.map_err(|_| self.error_at(at, "this address does not fit in 64 bits"))?,
                )
            }
        };
        if self.eat_punct(',')? {
            let coordinates = self.delimited('{', '}', room, depth)?;
            self.expect_punct(']')?;
            return Ok(Operand::TensorAddress { base, offset, coordinates });
        }
        self.expect_punct(']')?;
        Ok(Operand::Address { base, offset })
    }

    /// `+4`, `-4` or `+-4`; 0 if there is none.
    pub(super) fn optional_offset(&mut self) -> Parsed<i64> {
        let at = self.token.at;
        let value = match self.token.kind {
            Kind::Punct('-') => self.integer()?,
            Kind::Punct('+') => {
                self.take()?;
                self.integer()?
            }
            _ => return Ok(0),
        };
        i64::try_from(value).map_err(|_| self.error_at(at, "this offset does not fit in 64 bits"))
    }

    /// `-1.5` as the bits of an f64, if that is what stands here.
    pub(super) fn negative_float(&mut self) -> Parsed<Option<u64>> {
        match (self.token.kind, self.following.kind) {
            (Kind::Punct('-'), Kind::Float64(bits)) => {
                self.take()?;
                self.take()?;
                Ok(Some(bits ^ (1 << 63)))
            }
            _ => Ok(None),
        }
    }
}

struct QualifiedName {
    base: String,
    whole: String,
}
