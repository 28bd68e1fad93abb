//! The record layer against an oracle that keeps whole logs, and single facts in sentences.

mod agreement;
mod expected;
mod facts;
mod harness;
mod log;
mod oracle;
mod verbs;
