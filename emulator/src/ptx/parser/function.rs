//! Kernels and device functions.

use super::super::ast::{Function, FunctionKind, LaunchDirectives, Linkage, Variable};
use super::{Kind, Parsed, Parser, limit};

impl Parser<'_> {
    /// `.entry name (params) directives { … }`.
    pub(super) fn entry(&mut self, linkage: Linkage) -> Parsed<Function> {
        self.expect_dotted("entry")?;
        self.function(FunctionKind::Entry, linkage)
    }

    /// `.func (returns) name (params) { … }` or a declaration that ends with a semicolon.
    pub(super) fn device_function(&mut self, linkage: Linkage) -> Parsed<Function> {
        self.expect_dotted("func")?;
        self.function(FunctionKind::Device, linkage)
    }

    fn function(&mut self, kind: FunctionKind, linkage: Linkage) -> Parsed<Function> {
        self.scopes.open();
        let returns = if kind == FunctionKind::Device { self.parameters()? } else { Vec::new() };
        let line = self.token.at.line;
        let name = self.expect_name("a function name")?.to_owned();
        let params = self.parameters()?;
        let directives = self.launch_directives()?;
        let body = if self.eat_punct(';')? { None } else { Some(self.block(0)?) };
        self.scopes.close();
        Ok(Function { kind, linkage, name, params, returns, directives, body, line })
    }

    /// `(parameter, …)`; none at all if no parenthesis stands here.
    pub(super) fn parameters(&mut self) -> Parsed<Vec<Variable>> {
        let mut parameters = Vec::new();
        if !self.eat_punct('(')? || self.eat_punct(')')? {
            return Ok(parameters);
        }
        loop {
            if parameters.len() >= limit::OPERANDS {
                return Err(self.error("the function has more than 512 parameters"));
            }
            parameters.push(self.parameter()?);
            if !self.eat_punct(',')? {
                self.expect_punct(')')?;
                return Ok(parameters);
            }
        }
    }

    fn launch_directives(&mut self) -> Parsed<LaunchDirectives> {
        let mut directives = LaunchDirectives::default();
        while let Kind::Dotted(word) = self.token.kind {
            match word {
                "pragma" => {
                    self.skip_pragma()?;
                    continue;
                }
                "noreturn" | "explicitcluster" | "maxntid" | "reqntid" | "minnctapersm" | "maxnreg"
                | "reqnctapercluster" | "maxclusterrank" => self.take()?,
                _ => {
                    return Err(self.expected("a launch directive that this emulator knows, or `{`"));
                }
            };
            match word {
                "maxntid" => directives.maxntid = Some(self.extent()?),
                "reqntid" => directives.reqntid = Some(self.extent()?),
                "reqnctapercluster" => directives.reqnctapercluster = Some(self.extent()?),
                "minnctapersm" => directives.minnctapersm = Some(self.expect_u32("the number of blocks")?),
                "maxnreg" => directives.maxnreg = Some(self.expect_u32("the number of registers")?),
                "maxclusterrank" => {
                    directives.maxclusterrank = Some(self.expect_u32("the number of blocks")?)
                }
                "explicitcluster" => directives.explicitcluster = true,
                _ => {}
            }
        }
        Ok(directives)
    }

    /// One to three sizes; those left out are 1.
    fn extent(&mut self) -> Parsed<[u32; 3]> {
        let mut extent = [1; 3];
        for (index, size) in extent.iter_mut().enumerate() {
            if index > 0 && !self.eat_punct(',')? {
                break;
            }
            *size = self.expect_u32("a size")?;
        }
        Ok(extent)
    }
}
