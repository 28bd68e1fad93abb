//! The input of `promtool test rules`, as YAML: series with their samples, and which alerts they make.

use super::yaml;
use serde::Serialize;
use serde_saphyr::{FlowMap, FlowSeq, SingleQuoted};

/// A file of tests.
#[derive(Serialize)]
pub struct Tests {
    rule_files: FlowSeq<Vec<String>>,
    evaluation_interval: String,
    tests: Vec<Test>,
}

/// One test: what was scraped, and what is expected of it.
#[derive(Serialize)]
pub struct Test {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    interval: String,
    input_series: Vec<FlowMap<Input>>,
    promql_expr_test: Vec<Expected>,
}

#[derive(Serialize)]
struct Input {
    series: SingleQuoted<String>,
    values: String,
}

/// An answer that is expected, by alert name.
#[derive(Serialize)]
pub struct Expected {
    expr: String,
    eval_time: String,
    exp_samples: Vec<FlowMap<Sample>>,
}

#[derive(Serialize)]
struct Sample {
    labels: SingleQuoted<String>,
    value: usize,
}

impl Tests {
    /// Tests of the rules in this file, which lies beside theirs; spans as Prometheus reads them.
    pub fn of(rule_file: &str, evaluated: String, tests: Vec<Test>) -> Tests {
        let rule_files = FlowSeq(vec![rule_file.into()]);
        Tests { rule_files, evaluation_interval: evaluated, tests }
    }

    /// The file's text.
    pub fn text(&self, note: &str) -> String {
        yaml::document(note, self)
    }
}

impl Test {
    /// Samples `interval` apart of series, each with its values in promtool's notation.
    pub fn new(
        name: Option<String>,
        interval: String,
        input: impl IntoIterator<Item = (String, String)>,
        expected: Vec<Expected>,
    ) -> Test {
        let quoted = |(series, values)| FlowMap(Input { series: SingleQuoted(series), values });
        let input_series = input.into_iter().map(quoted).collect();
        Test { name, interval, input_series, promql_expr_test: expected }
    }
}

impl Expected {
    /// At a time, an expression by `alertname` has exactly these answers.
    pub fn alerts<'a>(
        expr: String,
        at: String,
        alerts: impl IntoIterator<Item = (&'a str, usize)>,
    ) -> Expected {
        let sample = |(name, value)| {
            let labels = SingleQuoted(format!("{{alertname=\"{name}\"}}"));
            FlowMap(Sample { labels, value })
        };
        Expected { expr, eval_time: at, exp_samples: alerts.into_iter().map(sample).collect() }
    }
}
