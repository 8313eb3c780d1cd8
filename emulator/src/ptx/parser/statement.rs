//! Statements of a function body.

use super::super::ast::{Guard, Instruction, Linkage, Statement};
use super::{Kind, Parsed, Parser, limit};

impl Parser<'_> {
    /// `{ statements }`.
    pub(super) fn block(&mut self, depth: u32) -> Parsed<Vec<Statement>> {
        if depth > limit::BLOCK_DEPTH {
            return Err(self.error("scopes are nested too deeply"));
        }
        self.expect_punct('{')?;
        self.scopes.open();
        let mut statements = Vec::new();
        while !self.at_punct('}') {
            self.statement(&mut statements, depth)?;
        }
        self.scopes.close();
        self.expect_punct('}')?;
        Ok(statements)
    }

    fn statement(&mut self, statements: &mut Vec<Statement>, depth: u32) -> Parsed<()> {
        match self.token.kind {
            Kind::Punct('{') => statements.push(Statement::Block(self.block(depth + 1)?)),
            Kind::Punct(';') => self.expect_punct(';')?,
            Kind::Punct('@') => statements.push(self.instruction()?),
            Kind::Dotted("pragma") => self.skip_pragma()?,
            Kind::Dotted("loc") => self.skip_line()?,
            Kind::Dotted(_) if self.at_declaration() => {
                statements.extend(self.declaration(Linkage::Private)?.into_iter().map(Statement::Variable));
            }
            Kind::Dotted(_) => return Err(self.expected("a directive that this emulator knows")),
            Kind::Name(_) if self.following.kind == Kind::Punct(':') => statements.push(self.label()?),
            Kind::Name(_) => statements.push(self.instruction()?),
            _ => return Err(self.expected("a statement or `}`")),
        }
        Ok(())
    }

    fn label(&mut self) -> Parsed<Statement> {
        let line = self.token.at.line;
        let name = self.expect_name("a label")?.to_owned();
        self.expect_punct(':')?;
        match self.token.kind {
            Kind::Dotted("branchtargets") => {
                self.take()?;
                let mut targets = vec![self.expect_name("a label")?.to_owned()];
                while self.eat_punct(',')? {
                    targets.push(self.expect_name("a label")?.to_owned());
                }
                self.expect_punct(';')?;
                Ok(Statement::BranchTargets { name, targets, line })
            }
            Kind::Dotted("callprototype") => {
                self.take()?;
                let returns = self.parameters()?;
                self.expect_name("`_`")?;
                let params = self.parameters()?;
                self.expect_punct(';')?;
                Ok(Statement::CallPrototype { name, returns, params, line })
            }
            _ => Ok(Statement::Label(name, line)),
        }
    }

    fn guard(&mut self) -> Parsed<Option<Guard>> {
        if !self.eat_punct('@')? {
            return Ok(None);
        }
        let negated = self.eat_punct('!')?;
        let register = self.expect_name("a predicate register")?.to_owned();
        Ok(Some(Guard { register, negated }))
    }

    fn instruction(&mut self) -> Parsed<Statement> {
        let from = self.token.at.offset;
        let guard = self.guard()?;
        let line = self.token.at.line;
        let opcode = self.expect_name("an opcode")?.to_owned();
        let modifiers = self.modifiers()?;
        let operands = self.operands()?;
        self.expect_punct(';')?;
        let source = self.source.get(from..self.taken_to).unwrap_or_default();
        let text = source.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Statement::Instruction(Instruction { guard, opcode, modifiers, operands, line, text }))
    }

    fn modifiers(&mut self) -> Parsed<Vec<String>> {
        let mut modifiers = Vec::new();
        while let Kind::Dotted(word) = self.token.kind {
            if modifiers.len() >= limit::MODIFIERS {
                return Err(self.error("the opcode has more than 32 modifiers"));
            }
            modifiers.push(word.to_owned());
            self.take()?;
        }
        Ok(modifiers)
    }
}
