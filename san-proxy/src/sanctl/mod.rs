//! The command-line tool `sanctl`, as a function.
