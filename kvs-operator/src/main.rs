//! The operator's program: parse, build, run, exit code.

fn main() {}
