//! An exposition as Prometheus' own Python parsers read it, and a quick look at one line of it.

use super::run_on;
use serde::Deserialize;
use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;

#[derive(Deserialize, Debug)]
pub struct Family {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Deserialize, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
    pub exemplar: Option<Exemplar>,
}

#[derive(Deserialize, Debug)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub timestamp: Option<f64>,
}

/// What the official parser for this kind of exposition (`text` or `openmetrics`) makes of it.
pub fn parsed(kind: &str, exposition: &[u8]) -> Vec<Family> {
    parse(&[kind], exposition)
}

/// The same for several at once: starting Python costs more than parsing.
pub fn parsed_all(kind: &str, expositions: &[String]) -> Vec<Vec<Family>> {
    parse(&[kind, "--many"], &serde_json::to_vec(expositions).unwrap())
}

fn parse<T: serde::de::DeserializeOwned>(how: &[&str], input: &[u8]) -> T {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parse_exposition.py");
    let (ok, out, complaint) = run_on("python3", &[&[script], how].concat(), input);
    assert!(ok, "the official parser ({how:?}) refuses it: {complaint}");
    serde_json::from_str(&out).unwrap()
}

/// All samples of all families, by name and labels; no two may share both.
pub fn numbers(families: &[Family]) -> BTreeMap<(&str, &Labels), f64> {
    let mut all = BTreeMap::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        let before = all.insert((&*sample.name, &sample.labels), sample.value);
        assert_eq!(before, None, "twice: {} {:?}", sample.name, sample.labels)
    }
    all
}

/// The value of the one series whose line starts with this name and holds these label pairs, such
/// as `reason="memory"`. For names and values without anything to escape.
pub fn value(text: &str, name: &str, pairs: &[&str]) -> Option<f64> {
    let mut lines = text.lines().filter(|line| {
        let labels = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{'));
        labels.is_some_and(|labels| pairs.iter().all(|pair| labels.contains(pair)))
    });
    let line = lines.next()?;
    assert_eq!(lines.next(), None, "{name} {pairs:?} is not one series");
    line.rsplit(' ').next().unwrap().parse().ok()
}

/// Has the family any series?
pub fn has(text: &str, family: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix("# TYPE ").is_some_and(|rest| rest.split(' ').next() == Some(family))
    })
}
