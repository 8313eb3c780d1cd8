//! Lexer, parser and syntax tree of PTX.

pub mod ast;
