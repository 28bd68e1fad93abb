//! What a panel is, before it becomes Grafana's JSON.

use crate::derive::site::Site;
use stepscope::catalog::alert::{Alert, AlertId, Severity};
use stepscope::catalog::quantity::{self, Quantity};
use stepscope::catalog::signal::Signal;
use stepscope::catalog::{self, Id, alerts};

/// How numbers are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// One large number per query.
    Stat,
    /// One dial per series.
    Gauge,
    /// Lines over time.
    Lines,
    /// Lines over time, one on top of the other.
    Stacked,
    /// Buckets of a histogram over time.
    Heat,
    /// One row per worker, one column per query.
    Table,
}

/// One number of a panel.
pub struct Target {
    /// PromQL.
    pub expr: String,
    /// What its lines are called; the column's name in a table.
    pub legend: &'static str,
    /// Unit of a table's column.
    pub unit: &'static str,
}

/// Where a colour begins.
#[derive(Clone, Copy)]
pub enum Step {
    /// At the limit of a condition of an alert, in the colour of its severity.
    Limit(AlertId, usize),
    /// At a number that belongs to the panel.
    At(f64, Severity),
}

/// One panel.
pub struct Panel {
    /// Its heading.
    pub title: &'static str,
    /// How it shows its numbers.
    pub view: View,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// Columns of 24, and lines.
    pub size: [u32; 2],
    /// What it answers.
    pub question: &'static str,
    /// The numbers.
    pub targets: Vec<Target>,
    /// Families whose healthy range is told.
    pub shows: &'static [Id],
    /// Where it turns yellow and red.
    pub steps: Vec<Step>,
    /// Alerts whose page it leads to, besides those of the steps.
    pub leads_to: &'static [AlertId],
    /// The scale goes from 0 to 1.
    pub whole: bool,
    /// Points of single requests are shown with their numbers.
    pub exemplars: bool,
}

/// The commonest size: three in a row.
const THIRD: [u32; 2] = [8, 8];

impl Panel {
    /// A panel of the commonest size, without numbers yet.
    pub fn new(title: &'static str, view: View, unit: &'static str) -> Panel {
        Panel {
            title,
            view,
            unit,
            size: THIRD,
            question: "",
            targets: vec![],
            shows: &[],
            steps: vec![],
            leads_to: &[],
            whole: false,
            exemplars: false,
        }
    }

    /// Its size: columns of 24, and lines.
    pub fn size(self, columns: u32, lines: u32) -> Panel {
        Panel { size: [columns, lines], ..self }
    }

    /// What it answers.
    pub fn answers(self, question: &'static str) -> Panel {
        Panel { question, ..self }
    }

    /// One more number.
    pub fn asks(mut self, expr: String, legend: &'static str) -> Panel {
        self.targets.push(Target { expr, legend, unit: self.unit });
        self
    }

    /// One more column of a table.
    pub fn column(mut self, expr: String, legend: &'static str, unit: &'static str) -> Panel {
        self.targets.push(Target { expr, legend, unit });
        self
    }

    /// Tells the healthy ranges of these families.
    pub fn shows(self, shows: &'static [Id]) -> Panel {
        Panel { shows, ..self }
    }

    /// Turns colour at the limit of a condition of an alert.
    pub fn limit(mut self, alert: AlertId, cond: usize) -> Panel {
        self.steps.push(Step::Limit(alert, cond));
        self
    }

    /// Turns colour at this number.
    pub fn step(mut self, at: f64, severity: Severity) -> Panel {
        self.steps.push(Step::At(at, severity));
        self
    }

    /// Leads to the pages of these alerts too.
    pub fn leads_to(self, leads_to: &'static [AlertId]) -> Panel {
        Panel { leads_to, ..self }
    }

    /// On a scale from 0 to 1.
    pub fn whole(self) -> Panel {
        Panel { whole: true, ..self }
    }

    /// With the numbers of single slow requests.
    pub fn exemplars(self) -> Panel {
        Panel { exemplars: true, ..self }
    }

    /// All alerts whose page it leads to, each once.
    pub fn alerts(&self) -> Vec<&'static Alert> {
        let of_steps = self.steps.iter().filter_map(|step| match step {
            Step::Limit(alert, _) => Some(alert),
            Step::At(..) => None,
        });
        let mut all: Vec<AlertId> = vec![];
        for id in of_steps.chain(self.leads_to) {
            if !all.contains(id) {
                all.push(*id)
            }
        }
        all.into_iter().map(alerts::alert).collect()
    }

    /// What it answers, what is healthy, and where its alerts begin.
    pub fn description(&self, site: &Site) -> String {
        let mut lines = vec![self.question.to_string()];
        for id in self.shows {
            let row = catalog::row(*id);
            if let Some(healthy) = row.healthy {
                lines.push(format!("Healthy ({}): {}.", row.name, healthy.range))
            }
        }
        for step in &self.steps {
            if let Step::Limit(id, cond) = step {
                let (at, quantity) = limit(site, *id, *cond);
                let name = alerts::alert(*id).name;
                lines.push(format!("{name} looks for more than {}.", quantity.words(at)))
            }
        }
        lines.retain(|line| !line.is_empty());
        lines.join("\n\n")
    }
}

/// Where a step begins, and its severity.
pub fn place(site: &Site, step: Step) -> (f64, Severity) {
    match step {
        Step::Limit(id, cond) => (limit(site, id, cond).0, alerts::alert(id).severity),
        Step::At(at, severity) => (at, severity),
    }
}

/// The limit in force of a condition of an alert, as its panel shows it: of a share above a bound
/// the bound.
fn limit(site: &Site, id: AlertId, cond: usize) -> (f64, Quantity) {
    let cond = &alerts::alert(id).conds()[cond];
    match cond.signal {
        Signal::Slow { histogram, bound, .. } => {
            (site.limits.value(id, bound), quantity::of_family(histogram))
        }
        signal => {
            let limit = cond.test.limit().map_or(f64::INFINITY, |l| site.limits.value(id, l));
            (limit, signal.quantity())
        }
    }
}
