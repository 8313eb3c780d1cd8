//! Lexer, parser and syntax tree of PTX.
