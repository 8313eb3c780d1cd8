//! PTX text to tokens, one at a time.

use super::error::ParseError;

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Bytes from the start.
    pub(super) offset: usize,
    /// Line, from 1.
    pub(super) line: u32,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// `ld`, `%r1`, `$L__BB0_1`, `_`.
    Name(&'a str),
    /// `.global`, `.L2::128B`, `.2d`, without the dot.
    Dotted(&'a str),
    /// An integer literal.
    Integer(u64),
    /// `0f…`.
    Float32(u32),
    /// `0d…` or a decimal fraction.
    Float64(u64),
    /// A string, without its quotes.
    Text,
    /// One of the single punctuation characters.
    Punct(char),
    /// `<<` or `>>`.
    Shift(char),
    /// The end of the text.
    End,
}

/// A token with its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) at: Position,
    /// Offset just behind the token.
    pub(super) end: usize,
}

/// Cuts a source into tokens; comments and white space go.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    offset: usize,
    line: u32,
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn is_name_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, offset: 0, line: 1 }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.offset + ahead).copied().unwrap_or(0)
    }

    fn position(&self) -> Position {
        Position { offset: self.offset, line: self.line }
    }

    fn error(&self, at: Position, message: impl Into<String>) -> ParseError {
        ParseError::new(self.source, at, message)
    }

    fn slice(&self, from: usize) -> &'a str {
        self.source.get(from..self.offset).unwrap_or_default()
    }

    fn step(&mut self) {
        if self.peek(0) == b'\n' {
            self.line = self.line.saturating_add(1);
        }
        self.offset += 1;
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.offset < self.source.len() && keep(self.peek(0)) {
            self.step();
        }
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            self.take_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            match (self.peek(0), self.peek(1)) {
                (b'/', b'/') => self.take_while(|byte| byte != b'\n'),
                (b'/', b'*') => self.skip_block_comment()?,
                // `# line` marks of a C preprocessor.
                (b'#', _) => self.take_while(|byte| byte != b'\n'),
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), ParseError> {
        let start = self.position();
        self.offset += 2;
        while self.offset < self.source.len() {
            if self.peek(0) == b'*' && self.peek(1) == b'/' {
                self.offset += 2;
                return Ok(());
            }
            self.step();
        }
        Err(self.error(start, "this comment is never closed: `*/` expected"))
    }

    /// The next token; [`Kind::End`] for ever once the text is used up.
    pub(super) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_blank()?;
        let at = self.position();
        let kind = if self.offset >= self.source.len() { Kind::End } else { self.kind(at)? };
        Ok(Token { kind, at, end: self.offset })
    }

    fn kind(&mut self, at: Position) -> Result<Kind<'a>, ParseError> {
        let first = self.peek(0);
        if first.is_ascii_digit() {
            return self.number(at);
        }
        if is_name_start(first) && (first != b'%' || is_name_part(self.peek(1))) {
            self.step();
            self.take_while(is_name_part);
            return Ok(Kind::Name(self.slice(at.offset)));
        }
        match first {
            b'.' if is_name_part(self.peek(1)) => Ok(self.dotted()),
            b'"' => self.text(at),
            b'<' | b'>' if self.peek(1) == first => {
                self.offset += 2;
                Ok(Kind::Shift(char::from(first)))
            }
            b',' | b';' | b':' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'@' | b'!'
            | b'|' | b'+' | b'-' | b'*' | b'/' | b'%' | b'&' | b'^' | b'~' | b'=' => {
                self.step();
                Ok(Kind::Punct(char::from(first)))
            }
            _ => {
                let wrong = self.source.get(at.offset..).and_then(|rest| rest.chars().next()).unwrap_or('\0');
                Err(self.error(at, format!("character {wrong:?} has no place in PTX")))
            }
        }
    }

    /// A dotted word; `::` belongs to it, a single colon does not.
    fn dotted(&mut self) -> Kind<'a> {
        self.step();
        let start = self.offset;
        loop {
            self.take_while(is_name_part);
            if self.peek(0) == b':' && self.peek(1) == b':' && is_name_part(self.peek(2)) {
                self.offset += 2;
            } else {
                return Kind::Dotted(self.slice(start));
            }
        }
    }

    fn text(&mut self, at: Position) -> Result<Kind<'a>, ParseError> {
        self.step();
        while self.offset < self.source.len() {
            match self.peek(0) {
                b'"' => {
                    self.step();
                    return Ok(Kind::Text);
                }
                b'\n' => break,
                b'\\' if self.peek(1) != b'\n' => self.offset += 2,
                _ => self.step(),
            }
        }
        Err(self.error(at, "this string is never closed: `\"` expected on the same line"))
    }

    fn number(&mut self, at: Position) -> Result<Kind<'a>, ParseError> {
        self.take_while(|byte| byte.is_ascii_alphanumeric());
        let digits = self.slice(at.offset);
        if self.peek(0) == b'.'
            && self.peek(1).is_ascii_digit()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return self.decimal_fraction(at);
        }
        parse_number(digits).ok_or_else(|| {
            self.error(at, format!("`{digits}` is no PTX number (or an integer of more than 64 bits)"))
        })
    }

    fn decimal_fraction(&mut self, at: Position) -> Result<Kind<'a>, ParseError> {
        self.step();
        self.take_while(|byte| byte.is_ascii_digit());
        if matches!(self.peek(0), b'e' | b'E') {
            self.step();
            if matches!(self.peek(0), b'+' | b'-') {
                self.step();
            }
            self.take_while(|byte| byte.is_ascii_digit());
        }
        let text = self.slice(at.offset);
        match text.parse::<f64>() {
            Ok(value) => Ok(Kind::Float64(value.to_bits())),
            Err(_) => Err(self.error(at, format!("`{text}` is no decimal number"))),
        }
    }
}

fn parse_number(text: &str) -> Option<Kind<'static>> {
    let tail = text.get(2..).unwrap_or_default();
    match text.get(..2) {
        Some("0f" | "0F") => {
            return exact_hex(tail, 8).and_then(|bits| u32::try_from(bits).ok()).map(Kind::Float32);
        }
        Some("0d" | "0D") => return exact_hex(tail, 16).map(Kind::Float64),
        _ => {}
    }
    let unsigned = text.strip_suffix('U').unwrap_or(text);
    let tail = unsigned.get(2..).unwrap_or_default();
    let (digits, radix) = match unsigned.get(..2) {
        Some("0x" | "0X") => (tail, 16),
        Some("0b" | "0B") => (tail, 2),
        Some(_) if unsigned.starts_with('0') => (unsigned.get(1..).unwrap_or_default(), 8),
        _ => (unsigned, 10),
    };
    // `from_str_radix` would also take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(Kind::Integer)
}

fn exact_hex(text: &str, digits: usize) -> Option<u64> {
    let whole = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if whole { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind<'_>> {
        let mut lexer = Lexer::new(source);
        let mut all = Vec::new();
        loop {
            match lexer.next() {
                Ok(Token { kind: Kind::End, .. }) => return all,
                Ok(token) => all.push(token.kind),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn literals() {
        let expected = [10u64, 0, 255, 8, 5, 7, u64::MAX].map(Kind::Integer);
        assert_eq!(kinds("10 0 0xfF 010 0b101 7U 0xFFFFFFFFFFFFFFFFU"), expected);
        assert_eq!(kinds("0f3F800000 0F7fc00000"), [Kind::Float32(0x3F80_0000), Kind::Float32(0x7FC0_0000)]);
        assert_eq!(
            kinds("0d3FF0000000000000 1.5e1"),
            [1.0f64, 15.0].map(|value| Kind::Float64(value.to_bits()))
        );
        for wrong in ["0f3F8", "08", "0b2", "0x", "0xg", "18446744073709551616", "1r", "0f3F80000000"] {
            assert!(Lexer::new(wrong).next().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_modifiers() {
        assert_eq!(
            kinds("cp.async.L2::128B %r1 _ $L: // x\n/* y\n */.2d"),
            [
                Kind::Name("cp"),
                Kind::Dotted("async"),
                Kind::Dotted("L2::128B"),
                Kind::Name("%r1"),
                Kind::Name("_"),
                Kind::Name("$L"),
                Kind::Punct(':'),
                Kind::Dotted("2d"),
            ]
        );
    }

    #[test]
    fn errors_have_a_place() {
        let mut lexer = Lexer::new("ok\n  \u{e9} ?");
        assert!(lexer.next().is_ok());
        let error = lexer.next().expect_err("not ASCII");
        assert_eq!((error.line, error.column, error.text.as_str()), (2, 3, "\u{e9} ?"));
    }
}
