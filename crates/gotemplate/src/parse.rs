//! Lexer and parser.
