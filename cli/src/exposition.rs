//! A strict reader of Prometheus' text format 0.0.4, which keeps every number as it was written.
//!
//! The comparison demands exactness, so nothing may be lost on the way in. The crate
//! `prometheus-parse` was tried and is unsuitable: it turns every value and every `le` into an `f64`
//! (a sum of nanoseconds past 2^53 loses its last digits, and `le` loses its text), cuts label
//! values at `,` and `}`, does not know `:` in a name, and skips a line it cannot read.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Names and values, sorted by name.
pub type Labels = BTreeMap<String, String>;

/// What identifies a sample.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Name of the sample: of a histogram the family's with `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// All labels, `le` included.
    pub labels: Labels,
}

/// Every sample of one scrape: its value as text.
pub type Exposition = BTreeMap<Key, String>;

impl Key {
    /// A sample of this name.
    pub fn new(name: impl Into<String>, labels: Labels) -> Key {
        Key { name: name.into(), labels }
    }

    /// Whether it carries this label with this value.
    pub fn has(&self, label: &str, value: &str) -> bool {
        self.labels.get(label).is_some_and(|there| there == value)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if i == 0 { '{' } else { ',' })?
        }
        if self.labels.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

/// Reads a whole exposition.
///
/// # Errors
/// Names the line that breaks the format, declares a type twice or repeats a series.
pub fn parse(text: &str) -> Result<Exposition> {
    let mut samples = Exposition::new();
    let mut types = HashMap::new();
    ensure!(text.ends_with('\n'), "the last line does not end: the answer was cut off");
    for (number, line) in text.lines().enumerate() {
        let read = match line.strip_prefix('#') {
            Some(comment) => read_comment(comment, &mut types),
            None if line.is_empty() => Ok(()),
            None => read_sample(line).and_then(|(key, value)| {
                ensure!(types.contains_key(family_of(&key.name, &types)), "no TYPE before it");
                match samples.insert(key, value.into()) {
                    Some(_) => bail!("the series stands there twice"),
                    None => Ok(()),
                }
            }),
        };
        read.with_context(|| format!("line {} of the exposition, {line:?}", number + 1))?
    }
    Ok(samples)
}

/// The family that a sample's name belongs to.
fn family_of<'a>(name: &'a str, types: &HashMap<String, String>) -> &'a str {
    let of_histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .find(|family| types.get(*family).is_some_and(|kind| kind == "histogram"));
    of_histogram.unwrap_or(name)
}

/// `# TYPE name kind`; anything else behind a `#` is prose.
fn read_comment(comment: &str, types: &mut HashMap<String, String>) -> Result<()> {
    let Some(rest) = comment.strip_prefix(" TYPE ") else { return Ok(()) };
    let (name, kind) = rest.split_once(' ').context("TYPE without a type")?;
    ensure!(is_name(name, true), "{name:?} is no metric name");
    ensure!(matches!(kind, "counter" | "gauge" | "histogram"), "{kind:?} is no type of ours");
    match types.insert(name.into(), kind.into()) {
        Some(_) => bail!("the type is declared twice"),
        None => Ok(()),
    }
}

/// `name value` or `name{label="value",...} value`, without a timestamp.
fn read_sample(line: &str) -> Result<(Key, &str)> {
    let end = line.find(['{', ' ']).context("a name and no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name, true), "{name:?} is no metric name");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = read_labels(inside, &mut labels)?
    }
    let value = rest.strip_prefix(' ').context("no space before the value")?;
    ensure!(value.parse::<f64>().is_ok(), "{value:?} is no number");
    Ok((Key::new(name, labels), value))
}

/// Reads up to the closing brace and returns what follows it.
fn read_labels<'a>(mut rest: &'a str, labels: &mut Labels) -> Result<&'a str> {
    loop {
        let (name, quoted) = rest.split_once("=\"").context("a label without a quoted value")?;
        ensure!(is_name(name, false), "{name:?} is no label name");
        let (value, behind) = read_value(quoted)?;
        ensure!(labels.insert(name.into(), value).is_none(), "label {name} stands there twice");
        match behind.split_at_checked(1) {
            Some((",", more)) => rest = more,
            Some(("}", after)) => return Ok(after),
            _ => bail!("no comma and no brace after label {name}"),
        }
    }
}

/// A label value up to its closing quote, and what follows it.
fn read_value(quoted: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                _ => bail!("an unknown escape in a label value"),
            }),
            c => value.push(c),
        }
    }
    bail!("a label value without an end")
}

fn is_name(text: &str, of_metric: bool) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || of_metric && c == ':';
    text.starts_with(is_start) && text.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_come_through_as_they_were_written() {
        let text = "# HELP h a, b = c}\n# TYPE h histogram\n\
                    h_bucket{endpoint=\"a,b=\\\"c}\\\\\\n\",le=\"5e-05\"} 18446744073709551615\n\
                    h_sum 9007199254740993.000000001\n\
                    # TYPE vllm:x gauge\nvllm:x{le=\"+Inf\"} NaN\n";
        let read = parse(text).unwrap();
        let (key, value) = read.iter().next().unwrap();
        assert_eq!(key.labels["endpoint"], "a,b=\"c}\\\n");
        assert_eq!((key.labels["le"].as_str(), value.as_str()), ("5e-05", "18446744073709551615"));
        assert_eq!(key.to_string(), r#"h_bucket{endpoint="a,b=\"c}\\\n",le="5e-05"}"#);
        assert_eq!(read[&Key::new("h_sum", Labels::new())], "9007199254740993.000000001");
    }

    #[test]
    fn whatever_breaks_the_format_is_refused_with_its_line() {
        for (bad, why) in [
            ("x 1", "no TYPE"),
            ("# TYPE x counter\n# TYPE x gauge", "twice"),
            ("# TYPE x counter\nx 1\nx 2", "twice"),
            ("# TYPE x counter\nx{} 1", "quoted value"),
            ("# TYPE x counter\nx{a=\"b\",} 1", "quoted value"),
            ("# TYPE x counter\nx{a=\"b\" 1", "no comma"),
            ("# TYPE x counter\nx{a=\"b} 1", "without an end"),
            ("# TYPE x counter\nx{gpu_0} 1", "quoted value"),
            ("# TYPE x counter\nx one", "no number"),
            ("# TYPE x counter\nx 1 1700000000", "no number"),
            ("# TYPE 1x counter", "no metric name"),
            ("# TYPE x{a=\"b\"} summary", "no metric name"),
        ] {
            let error = format!("{:#}", parse(&format!("{bad}\n")).unwrap_err());
            let line = format!("line {}", bad.lines().count());
            assert!(error.contains(why) && error.contains(&line), "{bad}: {error}");
        }
        assert!(parse("# TYPE x counter\nx 1").unwrap_err().to_string().contains("cut off"));
    }
}
