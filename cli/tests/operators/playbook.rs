//! The playbook: a page for every alert, whole, and true.

use crate::queries::{must_be_known, must_parse};
use crate::{Derived, repository};
use stepscope::catalog::ROWS;
use stepscope::catalog::alert::Alert;
use stepscope::catalog::alerts::ALERTS;

/// What every page answers, in this order.
const PARTS: [&str; 8] =
    ["Fires", "Impact", "Means", "Ask", "Causes", "Now", "Lasting", "Escalate"];

fn anchor(alert: &Alert) -> String {
    format!("<a id=\"{}\"></a>", alert.name.to_lowercase())
}

/// From the anchors of a page to those of the next.
fn pages(playbook: &str) -> Vec<&str> {
    let starts: Vec<usize> = playbook.match_indices("\n\n<a id=").map(|(at, _)| at + 2).collect();
    let ends = starts.iter().skip(1).copied().chain([playbook.len()]);
    starts.iter().zip(ends).map(|(start, end)| &playbook[*start..end]).collect()
}

fn page<'a>(pages: &[&'a str], alert: &Alert) -> &'a str {
    let mut found = pages.iter().filter(|page| page.contains(&anchor(alert)));
    let page = found.next().unwrap_or_else(|| panic!("{} has no page", alert.name));
    assert!(found.next().is_none(), "{} has two", alert.name);
    page
}

pub fn queries(playbook: &str) -> Vec<String> {
    let blocks = playbook.split("```promql\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.filter(|line| !line.starts_with('#')).map(String::from).collect()
}

#[test]
fn every_alert_has_its_anchor_and_its_first_action_on_the_first_lines() {
    let derived = Derived::with(&[]);
    let playbook = derived.read("playbook.md");
    let rules = derived.read("prometheus/rules.yml");
    let pages = pages(&playbook);
    for alert in &ALERTS {
        let page = page(&pages, alert);
        let others = page.matches("<a id=").count() - 1;
        let body = page.split_once("\n## ").unwrap().1.split_once("\n\n").unwrap().1;
        let first: Vec<&str> = body.split("\n\n").take(others + 1).collect();
        let whose = if others > 0 { format!("{}: ", alert.name) } else { String::new() };
        let wanted = format!("**{whose}{}**", alert.first_action);
        assert!(first.contains(&wanted.as_str()), "{}: {first:?}", alert.name);
        // The text in the rule file is the same one; YAML may have put it in quotes.
        assert!(rules.contains(alert.first_action), "{}", alert.name);
        assert!(page.contains(alert.impact), "{}", alert.name)
    }
}

#[test]
fn every_page_is_whole_and_in_order() {
    let playbook = Derived::with(&[]).read("playbook.md");
    let pages = pages(&playbook);
    assert_eq!(pages.len(), 17);
    for page in pages {
        let places: Vec<usize> = PARTS
            .iter()
            .map(|part| {
                let part = format!("**{part}.**");
                assert_eq!(page.matches(&part).count(), 1, "{part} in {page}");
                page.find(&part).unwrap()
            })
            .collect();
        assert!(places.is_sorted(), "{places:?} in {page}");
        assert!(!queries(page).is_empty(), "{page}")
    }
}

#[test]
fn nothing_is_left_to_fill_and_every_link_arrives() {
    for args in [&[][..], &["--times", "ci"], &["--no-keep"], &["--job", "engines"]] {
        let playbook = Derived::with(args).read("playbook.md");
        assert!(!playbook.contains("{{") && !playbook.contains("}}"), "{playbook}");
        for link in playbook.split("](#").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(playbook.contains(&format!("<a id=\"{target}\"></a>")), "{target}")
        }
    }
}

#[test]
fn every_query_of_the_playbook_parses_and_names_what_exists() {
    for args in [&[][..], &["--times", "ci"]] {
        let queries = queries(&Derived::with(args).read("playbook.md"));
        assert!(queries.len() > 50, "{}", queries.len());
        must_be_known(&queries);
        must_parse(&queries)
    }
}

#[test]
fn prose_types_no_name_that_a_row_has() {
    let folder = repository().join("cli/src/derive/playbook");
    let mut pages = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_none_or(|end| end != "md") {
            continue;
        }
        pages += 1;
        let prose = std::fs::read_to_string(entry.path()).unwrap();
        let shown = entry.path();
        for name in ROWS.iter().map(|row| row.name).chain(ALERTS.iter().map(|alert| alert.name)) {
            assert!(!prose.contains(name), "{} types {name}", shown.display())
        }
        for alert in &ALERTS {
            assert!(!prose.contains(alert.first_action), "{}: first action", shown.display())
        }
    }
    assert_eq!(pages, 17);
}

#[test]
fn limits_of_a_site_reach_the_prose() {
    let usual = Derived::with(&[]).read("playbook.md");
    let moved = Derived::limited("[llm_ttft_seconds]\ncritical = 8.0\n").read("playbook.md");
    assert!(usual.contains("waited longer than 5 s") && moved.contains("waited longer than 8 s"));
}

/// Advice that many runbooks give and that makes it worse; each page says why not.
#[test]
fn pages_keep_readers_from_cures_that_make_it_worse() {
    let playbook = Derived::with(&[]).read("playbook.md");
    // Lines are broken where prose is, not where the sentence is.
    let playbook = playbook.replace('\n', " ");
    for warning in [
        "a smaller batch lengthens the queue",
        "each step then becomes shorter (there are not fewer of them)",
        "A batch of 1 is no cure",
        "There is nothing to defragment",
        "The longest context is no knob for an incident",
        "A gap has four possible causes",
        "Never restart serving for this",
        "Paged KV blocks cannot fragment the memory",
    ] {
        assert!(playbook.contains(warning), "{warning}")
    }
    for cure in ["max_batch_size", "reduce the batch", "defragment the"] {
        assert!(!playbook.contains(cure), "{cure}")
    }
}
