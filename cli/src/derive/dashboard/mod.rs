//! `grafana/dashboard.json`: four rows of panels, from what users feel to whether numbers can be trusted.
//!
//! Titles, sizes and questions of the panels stand in the files of the rows (`user`, `gpu`,
//! `capacity`, `diagnostics`); names, units, limits and healthy ranges come from the catalog.
//! Panels of quantiles and heatmaps read classic buckets, or native histograms where the site has
//! them.

mod capacity;
mod diagnostics;
mod gpu;
mod grafana;
mod layout;
mod panel;
mod query;
mod units;
mod user;

use super::site::Site;
use query::Ask;

/// Address of the dashboard in Grafana: fixed, because links and bookmarks hang on it.
pub const UID: &str = "stepscope-llm";

/// The file.
pub fn text(site: &Site) -> String {
    let ask = Ask(site);
    let rows = [
        ("User experience", user::panels(ask)),
        ("GPU health", gpu::panels(ask)),
        ("KV cache and scheduling", capacity::panels(ask)),
        ("Detailed diagnostics", diagnostics::panels(ask)),
    ];
    let dashboard = grafana::dashboard(site, rows.into_iter());
    // Plain structs of strings, numbers and lists: there is nothing that JSON could not say.
    serde_json::to_string_pretty(&dashboard).unwrap_or_default() + "\n"
}
