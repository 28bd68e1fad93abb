//! Signals as PromQL: what the catalog says once, in the words of a Prometheus server.

use super::site::Site;
use super::times::span;
use stepscope::catalog::alert::{Alert, Scope, When};
use stepscope::catalog::alerts;
use stepscope::catalog::objective::{BAD_EVENTS, OBJECTIVES, Objective};
use stepscope::catalog::recording::{Recorded, Recording};
use stepscope::catalog::signal::{
    Cond, Fold, Limit, Part, Pick, Series, Server, Signal, Term, Test, Window,
};
use stepscope::catalog::{self, Id};

/// Longest expression on one line.
const LINE: usize = 88;

/// An expression, and how tightly its outermost operator binds.
#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
    bind: Bind,
}

/// Loosest first, as PromQL binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Bind {
    Or,
    And,
    Compare,
    Sum,
    Product,
    Call,
}

impl Expr {
    fn call(text: impl Into<String>) -> Expr {
        Expr { text: text.into(), bind: Bind::Call }
    }

    /// The text, without blanks at its ends.
    pub fn into_text(self) -> String {
        self.text
    }

    fn is_short(&self) -> bool {
        !self.text.contains('\n')
    }

    fn parenthesised(self) -> Expr {
        Expr::call(if self.is_short() {
            format!("({})", self.text)
        } else {
            format!("(\n{}\n)", indented(&self.text, 2))
        })
    }

    /// As an operand of an operator that binds so: in parentheses where it binds less tightly.
    fn operand(self, bind: Bind) -> Expr {
        if self.bind >= bind { self } else { self.parenthesised() }
    }

    /// Two operands on one line where they fit, else on lines of their own.
    fn join(self, operator: &str, bind: Bind, other: Expr) -> Expr {
        // The left side may be a chain of the same operator; the right side may not.
        let left = self.operand(bind);
        let right = if other.bind == bind { other.parenthesised() } else { other.operand(bind) };
        let one_line = left.text.len() + operator.len() + right.text.len() + 2 <= LINE;
        let text = if left.is_short() && right.is_short() && one_line {
            format!("{} {operator} {}", left.text, right.text)
        } else {
            format!("{}\n{operator}\n{}", left.text, right.text)
        };
        Expr { text, bind }
    }

    /// A comparison: behind a long expression it has a line of its own.
    fn compare(self, operator: &str, number: f64) -> Expr {
        let left = self.operand(Bind::Sum);
        let line_end = if left.is_short() { ' ' } else { '\n' };
        Expr { text: format!("{}{line_end}{operator} {number}", left.text), bind: Bind::Compare }
    }
}

fn indented(text: &str, by: usize) -> String {
    let blanks = " ".repeat(by);
    text.lines().map(|line| format!("{blanks}{line}")).collect::<Vec<_>>().join("\n")
}

/// A selector of series: `name{matchers}[window]`.
pub fn select(name: &str, matchers: &[String], window: &str) -> String {
    let matchers = matchers.join(",");
    let braces = if matchers.is_empty() { String::new() } else { format!("{{{matchers}}}") };
    format!("{name}{braces}{window}")
}

/// The matcher of a choice among a family's series.
pub fn matcher(pick: Pick) -> String {
    let operator = match (pick.only, pick.values.len()) {
        (true, 1) => "=",
        (true, _) => "=~",
        (false, 1) => "!=",
        (false, _) => "!~",
    };
    format!("{}{operator}\"{}\"", pick.label, pick.values.join("|"))
}

/// A family's name in the exposition: of a histogram the part that is meant.
pub fn series_name(series: &Series) -> String {
    let name = catalog::row(series.id).name;
    match series.part {
        Part::Value => name.to_string(),
        Part::Sum => format!("{name}_sum"),
        Part::Count => format!("{name}_count"),
    }
}

/// The writer for one site.
#[derive(Clone, Copy, Debug)]
pub struct Promql<'a>(pub &'a Site);

impl Promql<'_> {
    fn range(&self, window: Window) -> String {
        format!("[{}]", span(self.0.times.window_s(window)))
    }

    fn job(&self) -> String {
        format!("job=\"{}\"", self.0.job)
    }

    fn up(&self) -> String {
        select("up", &[self.job()], "")
    }

    fn series(&self, series: &Series, window: &str) -> String {
        let matchers: Vec<String> = series.pick.map(matcher).into_iter().collect();
        select(&series_name(series), &matchers, window)
    }

    fn growth(&self, function: &str, series: &Series, by: &str, window: Window) -> Expr {
        let range = self.series(series, &self.range(window));
        Expr::call(format!("sum{by}({function}({range}))"))
    }

    fn rates(&self, all: &[Series], by: &str, window: Window) -> Option<Expr> {
        let rates = all.iter().map(|series| self.growth("rate", series, by, window));
        rates.reduce(|sum, rate| sum.join("+", Bind::Sum, rate))
    }

    /// A signal at a scope: what is stored under a name of its own is read from there.
    pub fn signal(&self, signal: &Signal, scope: Scope) -> Expr {
        let stored =
            alerts::recordings().find(|r| r.scope == scope && r.what == Recorded::Signal(*signal));
        match (stored, signal) {
            (Some(recording), Signal::Slow { histogram, bound, .. })
            | (Some(recording), Signal::SlowCount { histogram, bound, .. }) => {
                let le = self.le(*histogram, *bound);
                Expr::call(select(&recording.name(), &[format!("limit=\"{le}\"")], ""))
            }
            (Some(recording), _) => Expr::call(recording.name()),
            (None, signal) => self.definition(signal, scope),
        }
    }

    /// The text of a bucket bound.
    pub fn le(&self, histogram: Id, bound: Limit) -> &'static str {
        // `Limits` takes bounds only, so there is one.
        self.0.limits.bound(histogram, bound).map_or("+Inf", |bound| bound.le)
    }

    /// A signal from the series it is made of.
    fn definition(&self, signal: &Signal, scope: Scope) -> Expr {
        let by = by(scope.labels());
        match signal {
            Signal::Level { of, fold, mean } => self.level(of, *fold, *mean, &by),
            Signal::Age { of } => Expr::call(format!("max{by}({})", self.series(of, ""))),
            Signal::Since { of } => Expr::call(format!("sum{by}({})", self.series(of, ""))),
            Signal::Count { of, window } => self.growth("increase", of, &by, *window),
            Signal::Rate { of, window } => self.growth("rate", of, &by, *window),
            Signal::Share { bad, total, window } => {
                let whole = self.rates(total, &by, *window).unwrap_or(Expr::call("0"));
                self.growth("rate", bad, &by, *window).join("/", Bind::Product, whole)
            }
            Signal::Slow { histogram, bound, window } => {
                let le = self.le(*histogram, *bound);
                let at = |le: &str| self.bucket(*histogram, le, *window, scope);
                at("+Inf").join("-", Bind::Sum, at(le)).join("/", Bind::Product, at("+Inf"))
            }
            Signal::SlowCount { histogram, bound, window } => {
                let name = format!("{}_bucket", catalog::row(*histogram).name);
                let at = |le: &str| {
                    let range = select(&name, &[format!("le=\"{le}\"")], &self.range(*window));
                    Expr::call(format!("sum{by}(increase({range}))"))
                };
                at("+Inf").join("-", Bind::Sum, at(self.le(*histogram, *bound)))
            }
            // Never from what is stored: another group may store it, at another time.
            Signal::Ratio { top, bottom } => {
                self.definition(top, scope).join("/", Bind::Product, self.definition(bottom, scope))
            }
            Signal::Server(server) => self.server(server, scope),
        }
    }

    fn level(&self, of: &[Term], fold: Fold, mean: Option<Window>, by: &str) -> Expr {
        let fold = match fold {
            Fold::Max => "max",
            Fold::Sum => "sum",
        };
        let one = |term: &Term| {
            let series = term.series();
            let inner = match mean {
                Some(window) => {
                    format!("avg_over_time({})", self.series(&series, &self.range(window)))
                }
                None => self.series(&series, ""),
            };
            Expr::call(format!("{fold}{by}({inner})"))
        };
        let mut terms = of.iter();
        let Some(first) = terms.next() else { return Expr::call("0") };
        terms.fold(one(first), |sum, term| {
            let operator = if matches!(term, Term::Plus(_)) { "+" } else { "-" };
            sum.join(operator, Bind::Sum, one(term))
        })
    }

    /// How fast a bucket fills: from the stored rates, which have the label `le` left.
    fn bucket(&self, histogram: Id, le: &str, window: Window, scope: Scope) -> Expr {
        let by = by(scope.labels());
        let le = format!("le=\"{le}\"");
        let what = Recorded::Buckets { histogram, window };
        let inner = match alerts::recordings().find(|r| r.scope == scope && r.what == what) {
            Some(recording) => select(&recording.name(), &[le], ""),
            None => {
                let name = format!("{}_bucket", catalog::row(histogram).name);
                format!("rate({})", select(&name, &[le], &self.range(window)))
            }
        };
        Expr::call(format!("sum{by}({inner})"))
    }

    fn server(&self, server: &Server, scope: Scope) -> Expr {
        const PER_OBJECTIVE: &str = " by (model, objective) ";
        let bad = BAD_EVENTS;
        match server {
            Server::SloBad { window } => {
                let all = Series::all(Id::SloEvents);
                let all = self.growth("rate", &all, PER_OBJECTIVE, *window);
                self.growth("rate", &bad, PER_OBJECTIVE, *window).join("/", Bind::Product, all)
            }
            Server::SloBadCount { window } => self.growth("increase", &bad, PER_OBJECTIVE, *window),
            Server::SloBurn { window } => {
                let burns = OBJECTIVES.iter().map(|objective| self.burn(*window, objective).text);
                Expr { text: burns.collect::<Vec<_>>().join("\nor\n"), bind: Bind::Or }
            }
            Server::Earlier { of, window, over, ago } => {
                let rate = self.signal(&Signal::Rate { of: *of, window: *window }, scope);
                let (over, ago) = (self.0.times.window_s(*over), self.0.times.ago_s(*ago));
                let range = format!("[{}] offset {}", span(over), span(ago));
                Expr::call(format!("avg_over_time({}{range})", rate.into_text()))
            }
            Server::Outlier { sum, count, window } => {
                let by = by(Scope::Worker.labels());
                let whole = self.growth("rate", count, &by, *window);
                let mean = self.growth("rate", sum, &by, *window).join("/", Bind::Product, whole);
                let median = format!("quantile by (model) (0.5,\n{}\n)", indented(&mean.text, 2));
                mean.parenthesised().join(
                    "/ on (model) group_left ()",
                    Bind::Product,
                    Expr::call(median),
                )
            }
            Server::Peers { of, window } => {
                let by = by(Scope::Worker.labels());
                let grows = self.growth("rate", of, &by, *window).compare(">", 0.0);
                Expr::call(format!("count by (model) ({})", grows.into_text()))
            }
            Server::TargetsAbsent => Expr::call(format!("absent({})", self.up())),
            Server::TargetsDown => {
                Expr { text: format!("1 - avg by (job) ({})", self.up()), bind: Bind::Sum }
            }
            Server::TargetDown => self.target_down(),
            Server::TargetWithout { family } => {
                let name = catalog::row(*family).name;
                let text = format!("{} == 1 unless on (instance) {name}", self.up());
                Expr { text, bind: Bind::And }
            }
            Server::ScrapeTime => Expr::call(select("scrape_duration_seconds", &[self.job()], "")),
            Server::Always => Expr::call("vector(1)"),
        }
    }

    /// With the labels of the worker that was there; a target that never answered has only its own.
    fn target_down(&self) -> Expr {
        let by = by(Scope::Worker.labels());
        let name = catalog::row(Id::WorkerInfo).name;
        let ago = span(self.0.times.remembered_s());
        let known = format!("max{by}(last_over_time({name}[{ago}]))");
        let down = Expr::call(self.up()).compare("==", 0.0);
        let text = format!(
            "{known}\n* on (instance) group_left ()\n{}\nor on (instance)\n{}",
            down.clone().parenthesised().into_text(),
            down.into_text(),
        );
        Expr { text, bind: Bind::Or }
    }

    /// How fast an objective's budget is used up.
    fn burn(&self, window: Window, objective: &Objective) -> Expr {
        let bad = self.signal(&Signal::Server(Server::SloBad { window }), Scope::Model);
        let only = [format!("objective=\"{}\"", objective.name)];
        let bad = Expr::call(select(&bad.text, &only, ""));
        bad.join("/", Bind::Product, Expr::call(objective.budget().to_string()))
    }

    /// The rules of a recording: what they store, and labels that tell one from the other.
    pub fn recording(&self, recording: &Recording) -> Vec<(Expr, Vec<(&'static str, String)>)> {
        // The fleet is the sum of its models.
        if recording.scope == Scope::Fleet {
            let of_models = Recording { scope: Scope::Model, ..*recording }.name();
            let buckets = matches!(recording.what, Recorded::Buckets { .. });
            let le: &[&str] = if buckets { &["le"] } else { &[] };
            return vec![(Expr::call(format!("sum{}({of_models})", by(le))), vec![])];
        }
        match recording.what {
            Recorded::Buckets { histogram, window } => {
                let name = format!("{}_bucket", catalog::row(histogram).name);
                let labels = [recording.scope.labels(), &["le"]].concat();
                let range = select(&name, &[], &self.range(window));
                vec![(Expr::call(format!("sum{}(rate({range}))", by(&labels))), vec![])]
            }
            Recorded::Signal(Signal::Server(Server::SloBurn { window })) => {
                let one = |objective: &Objective| {
                    let target = objective.target().to_string();
                    let labels = vec![("objective", objective.name.into()), ("target", target)];
                    (self.burn(window, objective), labels)
                };
                OBJECTIVES.iter().map(one).collect()
            }
            Recorded::Signal(signal) => {
                let labels = match signal {
                    Signal::Slow { histogram, bound, .. }
                    | Signal::SlowCount { histogram, bound, .. } => {
                        vec![("limit", self.le(histogram, bound).into())]
                    }
                    _ => vec![],
                };
                vec![(self.definition(&signal, recording.scope), labels)]
            }
        }
    }

    fn cond(&self, alert: &Alert, cond: &Cond) -> Expr {
        let signal = self.signal(&cond.signal, alert.scope);
        match cond.test {
            Test::Above(limit) => signal.compare(">", self.0.limits.value(alert.id, limit)),
            Test::AtLeast(limit) => signal.compare(">=", self.0.limits.value(alert.id, limit)),
            Test::Zero => signal.compare("==", 0.0),
            Test::Present => signal,
        }
    }

    /// When an alert fires.
    pub fn alert(&self, alert: &Alert) -> Expr {
        let mut conds = alert.conds().iter();
        let Some(first) = conds.next() else { return Expr::call("vector(0)") };
        let any = matches!(alert.when, When::Any(_));
        conds.fold(self.cond(alert, first), |all, cond| {
            let next = self.cond(alert, cond);
            let (word, bind) = if any { ("or", Bind::Or) } else { (joined_by(cond), Bind::And) };
            let text = format!("{}\n{word}\n{}", all.text, next.text);
            Expr { text, bind }
        })
    }
}

/// Conditions of one alert have the same labels, but for these.
fn joined_by(cond: &Cond) -> &'static str {
    match cond.signal {
        Signal::Server(Server::SloBadCount { .. }) => "and on (model, objective)",
        Signal::Server(Server::Peers { .. }) => "and on (model)",
        _ => "and",
    }
}

/// ` by (labels) `, or nothing for all together.
fn by(labels: &[&str]) -> String {
    if labels.is_empty() { String::new() } else { format!(" by ({}) ", labels.join(", ")) }
}
