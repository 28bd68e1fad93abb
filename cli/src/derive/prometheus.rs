//! `prometheus/prometheus.yml`: an example of how Prometheus scrapes engines and evaluates the rules.

use super::site::Site;
use super::times::span;
use super::yaml;
use serde::Serialize;
use serde_saphyr::FlowSeq;

#[derive(Serialize)]
struct Config<'a> {
    global: Global,
    rule_files: Vec<&'static str>,
    alerting: Alerting<'a>,
    scrape_configs: Vec<Scrape<'a>>,
}

#[derive(Serialize)]
struct Global {
    scrape_interval: String,
    scrape_timeout: String,
    evaluation_interval: String,
}

#[derive(Serialize)]
struct Alerting<'a> {
    alertmanagers: Vec<Targets<'a>>,
}

#[derive(Serialize)]
struct Targets<'a> {
    static_configs: Vec<Static<'a>>,
}

#[derive(Serialize)]
struct Static<'a> {
    targets: FlowSeq<Vec<&'a str>>,
}

#[derive(Serialize)]
struct Scrape<'a> {
    job_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    always_scrape_classic_histograms: Option<bool>,
    static_configs: Vec<Static<'a>>,
}

const NOTE: &str = "\
An example: replace the targets by your service discovery and keep the job's name, which the rules
ask for. Scrape no slower: windows of a minute need four samples.
Exemplars need --enable-feature=exemplar-storage.";

const NATIVE: &str = "
The rules read classic buckets: a server that stores native histograms must keep the classic ones
too, or every latency alert falls silent. Written for Prometheus 3.8. From 3.0 on: leave out
scrape_native_histograms and use --enable-feature=native-histograms. From 2.45 on the other setting is
called scrape_classic_histograms; before that there is none: keep native histograms off.";

/// The file.
pub fn text(site: &Site) -> String {
    let every = span(site.times.every_s());
    let native = site.native.then_some(true);
    let config = Config {
        global: Global {
            scrape_interval: every.clone(),
            scrape_timeout: span(site.times.every_s().min(10)),
            evaluation_interval: every,
        },
        rule_files: vec!["rules.yml"],
        alerting: Alerting {
            alertmanagers: vec![Targets {
                static_configs: vec![fixed(&[site.alertmanager.as_str()])],
            }],
        },
        scrape_configs: vec![Scrape {
            job_name: &site.job,
            scrape_native_histograms: native,
            always_scrape_classic_histograms: native,
            static_configs: vec![fixed(
                &site.targets.iter().map(String::as_str).collect::<Vec<_>>(),
            )],
        }],
    };
    let note = if site.native { format!("{NOTE}{NATIVE}") } else { NOTE.to_string() };
    yaml::document(&note, &config)
}

fn fixed<'a>(targets: &[&'a str]) -> Static<'a> {
    Static { targets: FlowSeq(targets.to_vec()) }
}
