//! Where panels stand: left to right as far as 24 columns go, then the next line.

use serde::Serialize;

/// Columns of a dashboard.
const COLUMNS: u32 = 24;

/// A panel's place, as Grafana says it.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    x: u32,
    y: u32,
    w: u32,
    h: u32,
}

/// Hands out places from the top.
#[derive(Default)]
pub struct Layout {
    x: u32,
    y: u32,
    /// Height of the line that is being filled.
    h: u32,
}

impl Layout {
    /// The place of the next panel.
    pub fn panel(&mut self, [w, h]: [u32; 2]) -> Place {
        if self.x + w > COLUMNS {
            self.next_line()
        }
        let place = Place { x: self.x, y: self.y, w, h };
        self.x += w;
        self.h = self.h.max(h);
        place
    }

    /// The place of a row's heading: a line of its own.
    pub fn heading(&mut self) -> Place {
        self.next_line();
        let place = self.panel([COLUMNS, 1]);
        self.next_line();
        place
    }

    fn next_line(&mut self) {
        self.y += self.h;
        (self.x, self.h) = (0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_that_does_not_fit_begins_a_line_below_the_tallest() {
        let mut layout = Layout::default();
        let at = |place: Place| (place.x, place.y);
        assert_eq!(at(layout.heading()), (0, 0));
        assert_eq!(at(layout.panel([12, 4])), (0, 1));
        assert_eq!(at(layout.panel([8, 9])), (12, 1));
        assert_eq!(at(layout.panel([8, 8])), (0, 10));
        assert_eq!(at(layout.heading()), (0, 18));
    }
}
