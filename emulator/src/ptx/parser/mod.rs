//! Recursive descent over the tokens, with every depth and count bounded.

mod expression;
mod function;
mod module;
mod operand;
mod scope;
mod statement;
mod variable;

use super::ast::Module;
use super::error::ParseError;
use super::lexer::{Kind, Lexer, Position, Token};
use scope::Scopes;

/// Bounds that no compiled kernel comes near, so that hostile text cannot exhaust stack or memory.
mod limit {
    /// Bytes of source.
    pub(super) const TEXT: usize = 64 << 20;
    /// Nested `{ }` scopes.
    pub(super) const BLOCK_DEPTH: u32 = 64;
    /// Nested parentheses, vectors and initialisers.
    pub(super) const OPERAND_DEPTH: u32 = 16;
    /// Operands of one instruction, vector elements included (wgmma has 128 accumulators).
    pub(super) const OPERANDS: usize = 512;
    /// Modifiers of one instruction.
    pub(super) const MODIFIERS: usize = 32;
    /// Registers declared in one function.
    pub(super) const REGISTERS: u64 = 1 << 20;
    /// Bytes of one variable.
    pub(super) const VARIABLE_BYTES: u64 = 1 << 40;
}

/// Parses a PTX module.
///
/// # Errors
/// [`ParseError`] with line, column and text if the source is not PTX, has a directive that this
/// parser does not know, or passes a bound (64 MiB of text, 64 nested scopes, 2^20 registers in a function).
pub fn parse(source: &str) -> Result<Module, ParseError> {
    let start = Position { offset: 0, line: 1 };
    if source.len() > limit::TEXT {
        return Err(ParseError::new(source, start, "the module is longer than 64 MiB: split it"));
    }
    Parser::new(source)?.module()
}

struct Parser<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    token: Token<'a>,
    following: Token<'a>,
    /// Offset behind the last token taken.
    taken_to: usize,
    scopes: Scopes<'a>,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Parsed<Self> {
        let mut lexer = Lexer::new(source);
        let token = lexer.next()?;
        let following = lexer.next()?;
        Ok(Self { source, lexer, token, following, taken_to: 0, scopes: Scopes::default() })
    }

    /// Takes the current token and moves on.
    fn take(&mut self) -> Parsed<Token<'a>> {
        let taken = self.token;
        self.token = self.following;
        self.following = self.lexer.next()?;
        self.taken_to = taken.end;
        Ok(taken)
    }

    fn error_at(&self, at: Position, message: impl Into<String>) -> ParseError {
        ParseError::new(self.source, at, message)
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.token.at, message)
    }

    /// "expected …, found …" at the current token.
    fn expected(&self, what: &str) -> ParseError {
        let found = match self.token.kind {
            Kind::End => "the end of the text".to_owned(),
            _ => {
                let text = self.source.get(self.token.at.offset..self.token.end).unwrap_or_default();
                format!("`{}`", text.chars().take(64).collect::<String>())
            }
        };
        self.error(format!("{what} expected, {found} found"))
    }

    fn at_punct(&self, punct: char) -> bool {
        self.token.kind == Kind::Punct(punct)
    }

    fn at_dotted(&self, word: &str) -> bool {
        self.token.kind == Kind::Dotted(word)
    }

    fn eat_punct(&mut self, punct: char) -> Parsed<bool> {
        let here = self.at_punct(punct);
        if here {
            self.take()?;
        }
        Ok(here)
    }

    fn eat_dotted(&mut self, word: &str) -> Parsed<bool> {
        let here = self.at_dotted(word);
        if here {
            self.take()?;
        }
        Ok(here)
    }

    fn expect_punct(&mut self, punct: char) -> Parsed<()> {
        if self.eat_punct(punct)? { Ok(()) } else { Err(self.expected(&format!("`{punct}`"))) }
    }

    fn expect_dotted(&mut self, word: &str) -> Parsed<()> {
        if self.eat_dotted(word)? { Ok(()) } else { Err(self.expected(&format!("`.{word}`"))) }
    }

    fn expect_name(&mut self, what: &str) -> Parsed<&'a str> {
        match self.token.kind {
            Kind::Name(name) => {
                self.take()?;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A literal in the range of `u32`.
    fn expect_u32(&mut self, what: &str) -> Parsed<u32> {
        match self.token.kind {
            Kind::Integer(value) => match u32::try_from(value) {
                Ok(value) => {
                    self.take()?;
                    Ok(value)
                }
                Err(_) => Err(self.error(format!("{what} must be below 2^32"))),
            },
            _ => Err(self.expected(what)),
        }
    }

    /// Drops the rest of the current line: `.loc` and `.file` end with it, not with a semicolon.
    fn skip_line(&mut self) -> Parsed<()> {
        let line = self.token.at.line;
        while self.token.at.line == line && self.token.kind != Kind::End {
            self.take()?;
        }
        Ok(())
    }

    /// `.pragma "…", "…";`, which may only guide ptxas.
    fn skip_pragma(&mut self) -> Parsed<()> {
        self.expect_dotted("pragma")?;
        loop {
            match self.token.kind {
                Kind::Text => self.take()?,
                _ => return Err(self.expected("a string")),
            };
            if !self.eat_punct(',')? {
                return self.expect_punct(';');
            }
        }
    }

    /// `.section name { … }`: debug information.
    fn skip_section(&mut self) -> Parsed<()> {
        self.expect_dotted("section")?;
        match self.token.kind {
            Kind::Dotted(_) | Kind::Name(_) => self.take()?,
            _ => return Err(self.expected("a section name")),
        };
        self.expect_punct('{')?;
        let mut depth = 1u32;
        while depth > 0 {
            match self.take()?.kind {
                Kind::Punct('{') => depth = depth.saturating_add(1),
                Kind::Punct('}') => depth -= 1,
                Kind::End => return Err(self.expected("`}` at the end of the section")),
                _ => {}
            }
        }
        Ok(())
    }
}
