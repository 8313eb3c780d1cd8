//! What a text that is no PTX is answered with.

use super::lexer::Position;

/// Longest piece of a source line that an error repeats.
const MAX_QUOTE: usize = 160;

/// The text is not PTX that this parser knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}, column {column}: {message}\n    {text}")]
#[non_exhaustive]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The source line, shortened if long.
    pub text: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl ParseError {
    /// An error at `position` of `source`.
    pub(super) fn new(source: &str, position: Position, message: impl Into<String>) -> Self {
        let before = source.get(..position.offset).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = source.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(start..).map_or(0, |text| text.chars().count()) + 1;
        Self {
            line: position.line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
            text: line.trim().chars().take(MAX_QUOTE).collect(),
            message: message.into(),
        }
    }
}
