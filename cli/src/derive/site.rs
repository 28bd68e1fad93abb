//! What a site may set before files are derived for it: limits, names and addresses.

use super::times::Times;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::limits::Limits;
use stepscope::catalog::{self, Id};

/// What of the files differs between sites.
#[derive(Args, Clone, Debug)]
pub struct SiteArgs {
    /// Limits of this site: TOML, one table per family or alert
    #[arg(long, value_name = "FILE.toml")]
    pub limits: Option<PathBuf>,
    /// Leave out keep_firing_for, which a Prometheus before 2.42 refuses
    #[arg(long)]
    pub no_keep: bool,
    /// Times for operation, or for a test of the whole chain
    #[arg(long, value_enum, default_value_t)]
    pub times: Times,
    /// For targets that offer native histograms: the scrape config also keeps the classic buckets
    /// that the rules read (Prometheus 3.8), and the dashboard asks for whole histograms
    #[arg(long)]
    pub native: bool,
    /// Job label of the engines' targets
    #[arg(long, value_name = "NAME", default_value = "llm")]
    pub job: String,
    /// Where the playbook can be read
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://runbooks.example.invalid/stepscope/playbook.md"
    )]
    pub runbooks: String,
    /// Where the dashboard can be seen
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://grafana.example.invalid/d/stepscope-llm/llm-serving"
    )]
    pub dashboard: String,
    /// Where Alertmanager is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9093")]
    pub alertmanager: String,
    /// Where Alertmanager tells of alerts, until a site puts its pager and chat there
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9099")]
    pub webhook: String,
    /// Addresses of the engines
    #[arg(long, value_name = "ADDR", default_value = stepscope::DEFAULT_LISTEN)]
    pub target: Vec<String>,
}

/// The site that files are derived for.
#[derive(Clone, Debug)]
pub struct Site {
    /// Limits in force.
    pub limits: Limits,
    /// The table of times.
    pub times: Times,
    /// Whether alerts are kept for a while after they ended.
    pub keep: bool,
    /// Whether targets offer native histograms.
    pub native: bool,
    /// Job label of the engines' targets.
    pub job: String,
    /// Base of the runbook's addresses.
    pub runbooks: String,
    /// Base of the dashboard's addresses.
    pub dashboard: String,
    /// Address of Alertmanager.
    pub alertmanager: String,
    /// Base of the webhooks' addresses.
    pub webhook: String,
    /// Addresses of the engines.
    pub targets: Vec<String>,
}

impl Site {
    /// # Errors
    /// The file of limits cannot be read, or asks for what cannot be.
    pub fn new(args: SiteArgs) -> Result<Site> {
        let mut limits = Limits::default();
        if let Some(limit) = args.times.stall_s() {
            limits.set_critical(Id::LastStepAge, limit)?
        }
        if let Some(limit) = args.times.frozen_s() {
            limits.set_warning(Id::AggregatorLag, limit)?
        }
        if let Some(path) = &args.limits {
            let shown = path.display();
            let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
            read_limits(&text, &mut limits).with_context(|| shown.to_string())?
        }
        ensure!(
            !args.job.is_empty() && !args.job.contains(['"', '\\', '\n']),
            "--job: a name without quotes"
        );
        Ok(Site {
            limits,
            times: args.times,
            keep: !args.no_keep,
            native: args.native,
            job: args.job,
            runbooks: args.runbooks,
            dashboard: args.dashboard,
            alertmanager: args.alertmanager,
            webhook: args.webhook,
            targets: args.target,
        })
    }
}

impl Site {
    /// A site that sets nothing.
    ///
    /// # Errors
    /// None of the defaults can be used, which a test excludes.
    pub fn usual() -> Result<Site> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            site: SiteArgs,
        }
        Site::new(<Line as clap::Parser>::try_parse_from(["site"])?.site)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    warning: Option<f64>,
    critical: Option<f64>,
    limit: Option<f64>,
}

/// `[llm_ttft_seconds] warning = 3.0, critical = 8.0`, `[LLMHostBound] limit = 0.5`.
fn read_limits(text: &str, limits: &mut Limits) -> Result<()> {
    let tables: BTreeMap<String, Table> = toml::from_str(text)?;
    let mut own = vec![];
    for (name, table) in tables {
        let family = catalog::ROWS.iter().find(|row| row.name == name);
        let alert = ALERTS.iter().find(|alert| alert.name == name);
        match (family, alert) {
            (Some(row), _) => {
                ensure!(table.limit.is_none(), "{name}: say warning or critical");
                // The one that leaves room for the other goes first.
                let raises = match (table.critical, limits.critical(row.id)) {
                    (Some(to), Some(from)) => to * row.unit.scale() as f64 > from as f64,
                    _ => false,
                };
                if let (Some(critical), true) = (table.critical, raises) {
                    limits.set_critical(row.id, critical)?
                }
                if let Some(warning) = table.warning {
                    limits.set_warning(row.id, warning)?
                }
                if let (Some(critical), false) = (table.critical, raises) {
                    limits.set_critical(row.id, critical)?
                }
            }
            (None, Some(alert)) => {
                let Some(limit) = table.limit else { bail!("{name}: say limit") };
                ensure!(
                    table.warning.is_none() && table.critical.is_none(),
                    "{name}: an alert has one limit"
                );
                own.push((alert.id, limit))
            }
            (None, None) => bail!("{name}: no family and no alert of this name"),
        }
    }
    // A pair that moves together is only in order once both have moved.
    while !own.is_empty() {
        let before = own.len();
        let mut refused = None;
        own.retain(|(id, limit)| {
            let tried = limits.set_own(*id, *limit);
            let is_left = tried.is_err();
            refused = refused.take().or(tried.err());
            is_left
        });
        if let (Some(error), true) = (refused, own.len() == before) {
            bail!(error)
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use stepscope::catalog::alert::AlertId;
    use stepscope::catalog::signal::Limit;

    /// A site that sets nothing.
    pub fn site(times: Times) -> Site {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            site: SiteArgs,
        }
        let line = <Line as clap::Parser>::parse_from(["test"]);
        Site::new(SiteArgs { times, ..line.site }).unwrap()
    }

    fn read(text: &str) -> Result<Limits> {
        let mut limits = Limits::default();
        read_limits(text, &mut limits).map(|()| limits)
    }

    #[test]
    fn a_site_may_move_both_limits_of_a_family_together() {
        for (warning, critical) in [("8.0", "20.0"), ("0.5", "1.0")] {
            let text = format!("[llm_ttft_seconds]\nwarning = {warning}\ncritical = {critical}\n");
            let limits = read(&text).unwrap();
            let le = |limit| limits.bound(Id::Ttft, limit).unwrap().le;
            assert_eq!(le(Limit::Warning(Id::Ttft)), warning);
            assert_eq!(le(Limit::Critical(Id::Ttft)), critical);
        }
    }

    #[test]
    fn an_alert_of_its_own_limit_may_have_another() {
        let limits = read("[LLMHostBound]\nlimit = 0.5\n").unwrap();
        assert_eq!(limits.value(AlertId::HostBound, Limit::Own(0.3)), 0.5);
    }

    #[test]
    fn both_alerts_of_a_symptom_may_move_together() {
        for (mild, severe) in [(0.06, 0.2), (0.001, 0.005)] {
            let text = format!(
                "[LLMElevatedErrorRate]\nlimit = {mild}\n[LLMHighErrorRate]\nlimit = {severe}\n"
            );
            let limits = read(&text).unwrap();
            assert_eq!(limits.value(AlertId::ElevatedErrorRate, Limit::Own(0.0)), mild);
            assert_eq!(limits.value(AlertId::HighErrorRate, Limit::Own(0.0)), severe);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_advice() {
        for (text, advice) in [
            ("[llm_ttft_seconds]\ncritical = 7.0\n", "take 5.0 or 8.0"),
            ("[llm_ttft_seconds]\nlimit = 5.0\n", "say warning or critical"),
            ("[llm_tfft_seconds]\ncritical = 5.0\n", "no family and no alert"),
            ("[LLMHostBound]\nwarning = 0.5\n", "say limit"),
            ("[LLMHighTTFT]\nlimit = 8.0\n", "that of llm_ttft_seconds"),
            ("[llm_ttft_seconds]\nfatal = 5.0\n", "unknown field"),
            ("[llm_queue_depth]\nwarning = 300\n", "before the critical"),
            ("[llm_kv_cache_utilization]\ncritical = 95\n", "say 0.95 for 95 %"),
            ("[llm_last_step_age_seconds]\ncritical = 0\n", "above 0"),
            ("[LLMHighErrorRate]\nlimit = 5\n", "say 0.05 for 5 %"),
            ("[LLMHighErrorRate]\nlimit = 0.005\n", "look at LLMElevatedErrorRate"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
