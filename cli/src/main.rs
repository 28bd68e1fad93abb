//! stepscope's command line.
fn main() {}
