//! Queries of panels: PromQL with the dashboard's variables in every selector.

use crate::derive::promql::{matcher, select, series_name};
use crate::derive::site::Site;
use crate::derive::times::span;
use stepscope::catalog::alert::{AlertId, Scope};
use stepscope::catalog::alerts;
use stepscope::catalog::recording::Recorded;
use stepscope::catalog::signal::{Part, Series, Signal, Window};
use stepscope::catalog::{self, Id};

/// Over which time a panel looks back at each point.
#[derive(Clone, Copy)]
pub enum Over {
    /// As long as its resolution asks for, and never fewer than four scrapes.
    Panel,
    /// Always so long.
    Fixed(Window),
}

/// The writer of queries for one site.
#[derive(Clone, Copy)]
pub struct Ask<'a>(pub &'a Site);

/// The selectors of the variables: of all, or of those that a scope has.
fn variables(scope: Scope) -> Vec<String> {
    let known = [("model", "$model"), ("worker_id", "$worker")];
    let of = |(label, variable): &(&str, &str)| format!("{label}=~\"{variable}\"");
    known.iter().filter(|(label, _)| scope.labels().contains(label)).map(of).collect()
}

/// ` by (labels) `, or nothing for all together.
fn by(labels: &[&str]) -> String {
    if labels.is_empty() { String::new() } else { format!(" by ({}) ", labels.join(", ")) }
}

impl Ask<'_> {
    fn range(self, over: Over) -> String {
        match over {
            Over::Panel => "[$__rate_interval]".into(),
            Over::Fixed(window) => format!("[{}]", span(self.0.times.window_s(window))),
        }
    }

    /// The series of the chosen models and workers.
    pub fn now(self, of: Series) -> String {
        self.picked(&series_name(&of), &of, "")
    }

    fn picked(self, name: &str, of: &Series, range: &str) -> String {
        let mut matchers = variables(Scope::Worker);
        matchers.extend(of.pick.map(matcher));
        select(name, &matchers, range)
    }

    /// Their sum or their largest, by these labels.
    pub fn fold(self, how: &str, of: Series, labels: &[&str]) -> String {
        format!("{how}{}({})", by(labels), self.now(of))
    }

    /// How fast they grow together, by these labels.
    pub fn rate(self, of: Series, labels: &[&str], over: Over) -> String {
        let range = self.picked(&series_name(&of), &of, &self.range(over));
        format!("sum{}(rate({range}))", by(labels))
    }

    /// Mean of a histogram's samples.
    pub fn mean(self, of: Id, over: Over) -> String {
        let sum = self.rate(Series::sum(of), &[], over);
        format!("{sum} / {}", self.rate(Series::count(of), &[], over))
    }

    /// The part of a share signal by the whole, by these labels.
    pub fn share(self, bad: Series, total: &[Series], labels: &[&str], over: Over) -> String {
        let all: Vec<String> = total.iter().map(|of| self.rate(*of, labels, over)).collect();
        let whole = all.join(" + ");
        let whole = if all.len() > 1 { format!("({whole})") } else { whole };
        format!("{} / {whole}", self.rate(bad, labels, over))
    }

    /// The share that decides an alert, as its panel shows it. Empty for an alert on no share, which
    /// the test of the queries would notice.
    pub fn share_of(self, alert: AlertId, labels: &[&str], over: Over) -> String {
        match alerts::alert(alert).conds()[0].signal {
            Signal::Share { bad, total, .. } => self.share(bad, total, labels, over),
            _ => String::new(),
        }
    }

    /// A quantile of a histogram, by these labels.
    pub fn quantile(self, q: f64, of: Id, labels: &[&str], over: Over) -> String {
        let inner = self.buckets("rate", of, labels, over);
        format!("histogram_quantile({q}, {inner})")
    }

    /// How a histogram fills.
    pub fn heat(self, of: Id) -> String {
        self.buckets("increase", of, &[], Over::Panel)
    }

    /// All buckets of a histogram: one series per bound, or one native histogram.
    fn buckets(self, function: &str, of: Id, labels: &[&str], over: Over) -> String {
        let all = Series { id: of, part: Part::Value, pick: None };
        let name = catalog::row(of).name;
        let range = self.range(over);
        if self.0.native {
            return format!("sum{}({function}({}))", by(labels), self.picked(name, &all, &range));
        }
        let labels = [&["le"], labels].concat();
        let selected = self.picked(&format!("{name}_bucket"), &all, &range);
        format!("sum{}({function}({selected}))", by(&labels))
    }

    /// What is stored for a condition of an alert. Empty for one that is not stored, which the test
    /// of the queries would notice.
    pub fn recorded(self, alert: AlertId, cond: usize) -> String {
        let row = alerts::alert(alert);
        let what = Recorded::Signal(row.conds()[cond].signal);
        let stored = alerts::recordings().find(|r| r.scope == row.scope && r.what == what);
        stored.map(|r| select(&r.name(), &variables(r.scope), "")).unwrap_or_default()
    }

    /// The targets of the job, as Prometheus itself sees them.
    pub fn target(self, name: &str) -> String {
        select(name, &[format!("job=\"{}\"", self.0.job)], "")
    }
}
