//! What the types forbid. The compiler's words are pinned beside each case; after a change of
//! compiler or of names, `TRYBUILD=overwrite cargo test --test misuse_does_not_compile` rewrites them.
#![allow(missing_docs)]

#[test]
fn misuse_that_the_types_forbid_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs")
}
