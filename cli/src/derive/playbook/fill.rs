//! Placeholders of the playbook's prose, from the rows of the catalog.

use crate::derive::promql::Promql;
use crate::derive::site::Site;
use stepscope::catalog::alert::Alert;
use stepscope::catalog::alerts::{self, ALERTS};
use stepscope::catalog::objective::{OBJECTIVES, Objective};
use stepscope::catalog::recording::Recorded;
use stepscope::catalog::signal::{Cond, Signal};
use stepscope::catalog::{ROWS, Row, quantity};

/// An alert's name as a link to its page.
pub fn link(alert: &Alert) -> String {
    format!("[{}](#{})", alert.name, alert.name.to_lowercase())
}

/// The prose with every placeholder filled. One that means nothing stays as it stands, and the test
/// of the playbook finds it.
pub fn filled(site: &Site, prose: &str) -> String {
    let mut text = String::with_capacity(prose.len() * 2);
    let mut rest = prose;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (placeholder, after) = behind.split_once("}}").unwrap_or((behind, ""));
        text += before;
        text += &value(site, placeholder).unwrap_or_else(|| format!("{{{{{placeholder}}}}}"));
        rest = after
    }
    text + rest
}

fn value(site: &Site, placeholder: &str) -> Option<String> {
    let words: Vec<&str> = placeholder.split(' ').collect();
    let cond = |name: &str, number: &str| -> Option<(&'static Alert, &'static Cond)> {
        let alert = alert(name)?;
        Some((alert, alert.conds().get(number.parse::<usize>().ok()?.checked_sub(1)?)?))
    };
    Some(match words[..] {
        ["job"] => site.job.clone(),
        ["objectives"] => objectives(site),
        ["name", name] => alert(name)?.name.into(),
        ["alert", name] => link(alert(name)?),
        ["bound", name] => bound(site, alert(name)?)?,
        ["limit", name] => limit(site, cond(name, "1")?)?,
        ["limit", name, number] => limit(site, cond(name, number)?)?,
        ["signal", name] => signal(site, cond(name, "1")?),
        ["signal", name, number] => signal(site, cond(name, number)?),
        ["buckets", scope, family, window] => buckets(scope, row(family)?, window)?,
        [family] => row(family)?.name.into(),
        _ => return None,
    })
}

/// The row whose number is called so.
fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| format!("{:?}", row.id) == name)
}

fn alert(name: &str) -> Option<&'static Alert> {
    ALERTS.iter().find(|alert| format!("{:?}", alert.id) == name)
}

fn limit(site: &Site, (alert, cond): (&Alert, &Cond)) -> Option<String> {
    let limit = site.limits.value(alert.id, cond.test.limit()?);
    Some(cond.signal.quantity().words(limit))
}

fn bound(site: &Site, alert: &Alert) -> Option<String> {
    match alert.conds()[0].signal {
        Signal::Slow { histogram, bound, .. } => {
            Some(quantity::of_family(histogram).words(site.limits.value(alert.id, bound)))
        }
        _ => None,
    }
}

fn signal(site: &Site, (alert, cond): (&Alert, &Cond)) -> String {
    Promql(site).signal(&cond.signal, alert.scope).into_text()
}

fn buckets(scope: &str, of: &Row, of_window: &str) -> Option<String> {
    let wanted = |what: Recorded| match what {
        Recorded::Buckets { histogram, window } => histogram == of.id && window.text() == of_window,
        Recorded::Signal(_) => false,
    };
    let stored = alerts::recordings().find(|r| r.scope.text() == scope && wanted(r.what));
    stored.map(|recording| recording.name())
}

/// One line per objective: what is promised, of what.
fn objectives(site: &Site) -> String {
    let one = |objective: &Objective| {
        let within = objective.within.and_then(|limit| within(site, limit)).unwrap_or_default();
        let target = quantity::Quantity::Share.words(objective.target());
        format!("- {}, {target}: {}", objective.name, objective.good.replace("{within}", &within))
    };
    OBJECTIVES.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn within(site: &Site, limit: stepscope::catalog::signal::Limit) -> Option<String> {
    use stepscope::catalog::signal::Limit;
    let (Limit::Warning(id) | Limit::Critical(id)) = limit else { return None };
    // The limit is the family's, whichever alert asks for it.
    let value = site.limits.value(ALERTS[0].id, limit);
    Some(quantity::of_family(id).words(value))
}
