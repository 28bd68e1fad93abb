//! `kubernetes/`: the same rules, routes and dashboard as objects of a cluster, and what a pod needs.
//!
//! Namespaces are left out: `kubectl apply -n`.

mod alertmanager;
mod objects;
mod picker;

pub use alertmanager::text as alertmanager;
pub use objects::{dashboard, monitor, probes, rules};
pub use picker::text as endpoint_picker;

/// Name of the objects.
const NAME: &str = "stepscope";
/// What the pods of engines carry, and the monitor looks for.
const POD_LABEL: (&str, &str) = ("app.kubernetes.io/component", "llm-engine");
/// Name of the port that serves metrics and probes.
const PORT: &str = "metrics";
