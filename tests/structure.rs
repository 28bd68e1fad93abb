//! The layout shows the design: data flows one way, and imports point the other way.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Floors of the library, lowest first. A module may import modules of lower floors only.
const FLOORS: &[&[&str]] = &[
    &["catalog"],
    &["record"],
    &["clock", "snapshot"],
    &["config", "judge"],
    &["aggregate", "gpu"],
    &["shared"],
    &["health", "collector"],
    &["export"],
    &["scope"],
];

/// Most lines of a source file: above it, look whether it still has one job.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests" && name != "target") {
                sources(&path, found)
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path)
        }
    }
}

/// The file's code without comments and without its test module, which stands last.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = code.split("#[cfg(test)]\npub mod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// First segments of every path behind `prefix`, in braces too: `crate::{a::B, c}` gives a and c.
fn paths_behind(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (1, true);
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => start = true,
                    c if (c.is_alphanumeric() || c == '_') && depth == 1 && start => word.push(c),
                    c if c.is_whitespace() && word.is_empty() => {}
                    _ if depth == 1 => start = false,
                    _ => {}
                }
                if !word.is_empty() && (!start || depth == 0 || c == ',' || c == '{' || c == ':') {
                    found.insert(std::mem::take(&mut word));
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.retain(|word: &String| word.chars().next().is_some_and(|c| c.is_lowercase()));
    found
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

#[test]
fn no_module_imports_one_of_its_own_floor_or_above() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut files = vec![];
    sources(&root().join("src"), &mut files);
    let mut seen = BTreeSet::new();
    for file in files.iter().filter(|file| !file.ends_with("lib.rs")) {
        let module = module_of(file);
        let own = floor(&module).unwrap_or_else(|| panic!("{module} stands on no floor"));
        seen.insert(module.clone());
        for import in paths_behind(&code(file), "crate::").iter().filter(|i| **i != module) {
            let Some(theirs) = floor(import) else { panic!("{}: {import}?", file.display()) };
            assert!(theirs < own, "{} imports {import}: an arrow upward", file.display());
        }
    }
    let floors: BTreeSet<String> =
        FLOORS.iter().copied().flatten().map(|m| m.to_string()).collect();
    assert_eq!(seen, floors, "FLOORS and src/ differ");
}

/// What is left of the imports among the files of a folder after whatever imports nothing that is
/// left was taken away, again and again: the files of circles, and those above them.
fn circles(folder: &Path, prefixes: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = vec![];
    sources(folder, &mut files);
    // A façade only re-exports, and a front file only calls; a circle is one among the files behind.
    files.retain(|file| !["mod.rs", "lib.rs", "main.rs"].iter().any(|front| file.ends_with(front)));
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let names: BTreeSet<String> = files.iter().map(name).collect();
    let mut imports = BTreeMap::new();
    for file in &files {
        let code = code(file);
        let mut named = BTreeSet::new();
        for prefix in prefixes {
            named.extend(paths_behind(&code, prefix))
        }
        named.retain(|import| names.contains(import));
        imports.insert(name(file), named);
    }
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, named| named.iter().any(|import| left.contains(import)));
        if imports.len() == left.len() {
            return imports;
        }
    }
}

#[test]
fn no_circle_runs_through_the_files_of_a_module() {
    for module in ["catalog", "record", "aggregate", "gpu", "export"] {
        let own = format!("crate::{module}::");
        let found = circles(&root().join("src").join(module), &["super::", &own]);
        assert!(found.is_empty(), "a circle in {module}: {found:?}");
    }
    for package in ["sim", "cli", "gpu-real", "capi"] {
        let found = circles(&root().join(package).join("src"), &["crate::"]);
        assert!(found.is_empty(), "a circle in {package}: {found:?}");
    }
}

#[test]
fn every_file_says_its_job_first_and_stays_short() {
    let members = ["sim/src", "cli/src", "fake-cuda/src", "gpu-real/src", "xtask/src", "capi/src"];
    for folder in
        members.into_iter().chain(["src", "benches", "tests", "gpu-real/tests", "capi/tests"])
    {
        let mut files = vec![];
        sources(&root().join(folder), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{} does not say its job", file.display());
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
        }
    }
}

/// Names of families and alerts and first actions stand in the catalog. The demo engine does not know
/// it, and the playbook's prose is no Rust.
#[test]
fn nothing_of_the_catalog_is_typed_a_second_time() {
    use stepscope::catalog::{ROWS, alerts::ALERTS};
    let names = ROWS.iter().map(|row| format!("\"{}", row.name));
    let alerts = ALERTS.iter().map(|alert| alert.name.to_string());
    let actions = ALERTS.iter().map(|alert| alert.first_action.to_string());
    let typed_once: Vec<String> = names.chain(alerts).chain(actions).collect();
    let mut files = vec![];
    sources(&root().join("src"), &mut files);
    sources(&root().join("cli/src"), &mut files);
    let of_catalog = root().join("src/catalog");
    let outside = files.iter().filter(|file| !file.starts_with(&of_catalog));
    // Reads the catalog's own reader of random streams: all of it is a test.
    for file in outside.filter(|file| !file.ends_with("derive/agree.rs")) {
        let code = code(file);
        for once in &typed_once {
            assert!(!code.contains(once.as_str()), "{} types {once}", file.display());
        }
    }
    // The catalog itself says each first action once.
    let mut sources_of_catalog = vec![];
    sources(&of_catalog, &mut sources_of_catalog);
    let whole: String = sources_of_catalog.iter().map(|file| code(file)).collect();
    for alert in &ALERTS {
        let actions = whole.matches(&format!("\"{}\"", alert.first_action)).count();
        let same = ALERTS.iter().filter(|other| other.first_action == alert.first_action).count();
        assert_eq!(actions, 1, "{}: {same} alerts share its first action", alert.name);
        assert_eq!(whole.matches(&format!("\"{}\"", alert.name)).count(), 1, "{}", alert.name)
    }
}

/// A limit of the catalog is a number with a name: whoever judges, shows or derives asks for it.
#[test]
fn no_limit_of_an_alert_is_typed_where_limits_are_used() {
    use stepscope::catalog::{ROWS, Unit};
    let mut files = vec![];
    for folder in ["src/judge", "src/health", "src/export", "cli/src/derive"] {
        sources(&root().join(folder), &mut files)
    }
    files.push(root().join("src/config.rs"));
    let limits = ROWS.iter().filter_map(|row| Some((row, row.healthy?)));
    let typed: Vec<String> = limits
        .flat_map(|(row, healthy)| {
            let both = [healthy.warning, healthy.critical].into_iter().flatten();
            both.map(move |stored| (row, stored))
        })
        // Small numbers and whole seconds stand for other things too.
        .flat_map(|(row, stored)| match row.unit {
            Unit::Seconds if stored % 1_000_000_000 != 0 => {
                vec![stored.to_string(), (stored as f64 * 1e-9).to_string()]
            }
            // As shares they look like quantiles.
            Unit::Ratio => vec![stored.to_string()],
            _ => vec![],
        })
        .collect();
    assert!(typed.len() >= 6, "{typed:?}");
    for file in &files {
        let code = code(file).replace('_', "");
        let mut words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let found = words.find(|word| typed.iter().any(|limit| limit == word));
        assert_eq!(found, None, "{} types a limit", file.display())
    }
}

#[test]
fn the_path_reader_reads_braces() {
    let code = "use crate::{record::Time, config::{A, b}, clock};\ncrate::catalog::row(x)";
    let found: Vec<String> = paths_behind(code, "crate::").into_iter().collect();
    assert_eq!(found, ["catalog", "clock", "config", "record"]);
}
