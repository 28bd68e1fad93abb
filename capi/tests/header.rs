//! `include/stepscope.h` is what cbindgen makes of `src/`; a stale one is rewritten and fails once.
#![allow(missing_docs)]

mod common;

use cbindgen::{Builder, Config};
use common::root;
use std::collections::BTreeSet;
use std::fs;

/// The files in the order of the header: words and settings first, then what they are used for.
const FILES: [&str; 12] = [
    "words", "config", "scope", "recorder", "record", "step", "ticket", "gpu", "lane", "device",
    "read", "log",
];

fn generated() -> String {
    let config = Config::from_file(root().join("cbindgen.toml")).unwrap();
    let builder = Builder::new().with_config(config);
    let source = |name: &&str| root().join("src").join(format!("{name}.rs"));
    let builder = FILES.iter().fold(builder, |builder, name| builder.with_src(source(name)));
    let mut text = vec![];
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_what_the_source_says() {
    let place = root().join("include/stepscope.h");
    let wanted = generated();
    if fs::read_to_string(&place).unwrap_or_default() != wanted {
        fs::write(&place, wanted).unwrap();
        panic!("{} was stale and is rewritten: read the difference, check it in", place.display())
    }
}

/// Names that the sources export.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in FILES {
        let text = fs::read_to_string(root().join("src").join(format!("{file}.rs"))).unwrap();
        for line in text.lines().filter(|line| line.contains(r#"extern "C" fn stepscope_"#)) {
            if let Some((_, rest)) = line.split_once(r#"pub unsafe extern "C" fn "#) {
                names.insert(rest.split('(').next().unwrap().to_string());
            } else if let Some((_, rest)) = line.split_once(r#"pub extern "C" fn "#) {
                names.insert(rest.split('(').next().unwrap().to_string());
            }
        }
    }
    names
}

#[test]
fn every_function_stands_in_the_header_with_its_thread_rule() {
    let header = generated();
    let names = exported();
    assert!(names.len() > 70, "{}", names.len());
    for name in names {
        // A declaration stands behind its comment; other places are inside comments.
        let mut comment = String::new();
        let mut found = false;
        for line in header.lines() {
            match line.strip_prefix("//") {
                Some(said) => comment.push_str(said),
                None if line.contains(&format!("{name}(")) && !line.starts_with(" *") => {
                    found = true;
                    assert!(comment.contains("Thread: "), "{name} does not say its thread")
                }
                None => comment.clear(),
            }
        }
        assert!(found, "{name} is not declared")
    }
}

/// A pinned line of `abi.txt` says what must never change; new lines are allowed.
#[test]
fn nothing_that_was_published_changes() {
    let place = root().join("tests/abi.txt");
    let pinned = fs::read_to_string(&place).unwrap_or_default();
    let now = common::abi();
    let lost: Vec<&str> =
        pinned.lines().filter(|line| !now.contains(*line) && !line.starts_with('#')).collect();
    assert!(lost.is_empty(), "these are promises to compiled programs: {lost:#?}");
    let known: BTreeSet<&str> = pinned.lines().collect();
    let new: Vec<&String> = now.iter().filter(|line| !known.contains(line.as_str())).collect();
    if !new.is_empty() {
        let head = "# Symbols, sizes, offsets and numbers of the C interface; only added to.\n";
        fs::write(
            &place,
            head.to_string() + &now.iter().map(|l| l.clone() + "\n").collect::<String>(),
        )
        .unwrap();
        panic!("tests/abi.txt did not have {new:#?}: they are added, check it in")
    }
}
