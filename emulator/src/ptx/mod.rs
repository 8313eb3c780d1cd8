//! Lexer, parser and syntax tree of PTX.

pub mod ast;
mod error;
mod lexer;
mod parser;

pub use error::ParseError;
pub use parser::parse;
