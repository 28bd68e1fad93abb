//! A family as the writers see it: one of the catalog's, or an alias under another system's name.

use crate::catalog::grid::Grid;
use crate::catalog::{Kind, Unit};
use crate::snapshot::{Family, Sampled};

/// Name, type, help and series of one exposed family.
#[derive(Clone, Copy)]
pub(crate) struct Exposed<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) help: &'a str,
    pub(crate) series: &'a [Sampled],
}

impl<'a> Exposed<'a> {
    pub(crate) fn of(family: &'a Family) -> Exposed<'a> {
        let row = family.row;
        Exposed {
            name: row.name,
            kind: row.kind,
            unit: row.unit,
            help: row.help,
            series: &family.series,
        }
    }

    pub(crate) fn grid(&self) -> Grid {
        match self.kind {
            Kind::Histogram(grid) => grid,
            _ => &[],
        }
    }
}
