//! The module scope.

use super::super::ast::{Linkage, Module, Target};
use super::super::lexer::Position;
use super::{Kind, Parsed, Parser};

impl Parser<'_> {
    pub(super) fn module(&mut self) -> Parsed<Module> {
        let version = self.version()?;
        let target = self.target()?;
        let mut module =
            Module { version, target, address_size: 64, variables: Vec::new(), functions: Vec::new() };
        while self.token.kind != Kind::End {
            self.module_statement(&mut module)?;
        }
        Ok(module)
    }

    fn module_statement(&mut self, module: &mut Module) -> Parsed<()> {
        let linkage = self.linkage()?;
        match self.token.kind {
            Kind::Dotted("address_size") => module.address_size = self.address_size()?,
            Kind::Dotted("entry") => module.functions.push(self.entry(linkage)?),
            Kind::Dotted("func") => module.functions.push(self.device_function(linkage)?),
            Kind::Dotted("pragma") => self.skip_pragma()?,
            Kind::Dotted("section") => self.skip_section()?,
            Kind::Dotted("file" | "loc") => self.skip_line()?,
            Kind::Dotted("reg" | "local" | "param") => {
                return Err(self.error("registers, parameters and local variables belong inside a function"));
            }
            Kind::Dotted(_) if self.at_declaration() => module.variables.extend(self.declaration(linkage)?),
            Kind::Punct(';') => self.expect_punct(';')?,
            _ => return Err(self.expected("a module directive that this emulator knows")),
        }
        Ok(())
    }

    fn linkage(&mut self) -> Parsed<Linkage> {
        let linkage = match self.token.kind {
            Kind::Dotted("visible") => Linkage::Visible,
            Kind::Dotted("extern") => Linkage::Extern,
            Kind::Dotted("weak") => Linkage::Weak,
            Kind::Dotted("common") => Linkage::Common,
            _ => return Ok(Linkage::Private),
        };
        self.take()?;
        Ok(linkage)
    }

    /// `.version 8.0`: the lexer sees a fraction, so the digits are read from its text.
    fn version(&mut self) -> Parsed<(u32, u32)> {
        self.expect_dotted("version")?;
        let text = self.source.get(self.token.at.offset..self.token.end).unwrap_or_default();
        let parts = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match parts {
            Some((Ok(major), Ok(minor))) => {
                self.take()?;
                Ok((major, minor))
            }
            _ => Err(self.expected("a version such as `8.0`")),
        }
    }

    /// `.target sm_90a, debug`.
    fn target(&mut self) -> Parsed<Target> {
        self.expect_dotted("target")?;
        let at = self.token.at;
        let name = self.expect_name("a target such as `sm_80`")?;
        let target = self.parse_target(name, at)?;
        while self.eat_punct(',')? {
            match self.token.kind {
                Kind::Name("debug" | "texmode_unified" | "texmode_independent") => self.take()?,
                _ => return Err(self.expected("`debug` or a texture mode")),
            };
        }
        Ok(target)
    }

    fn parse_target(&self, name: &str, at: Position) -> Parsed<Target> {
        let number = name.strip_prefix("sm_").unwrap_or_default();
        let digits = number.trim_end_matches(['a', 'f']);
        let suffix = number.get(digits.len()..).unwrap_or_default();
        match (digits.parse(), suffix.chars().next()) {
            (Ok(sm), suffix_char) if suffix.len() <= 1 => Ok(Target { sm, suffix: suffix_char }),
            _ => {
                Err(self.error_at(at, format!("`{name}` is no target: write `sm_` and a compute capability")))
            }
        }
    }

    fn address_size(&mut self) -> Parsed<u32> {
        self.expect_dotted("address_size")?;
        let at = self.token.at;
        match self.expect_u32("64")? {
            64 => Ok(64),
            other => {
                Err(self.error_at(at, format!("addresses of {other} bits are not supported: compile for 64")))
            }
        }
    }
}
