//! Counts the calls of every entry point and makes chosen ones fail.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use crate::codes::Code;
use crate::lock::lock;

/// The name that stands for every entry point.
const ANY: &str = "*";

/// Let `skip` calls pass, then give `code` to `count` calls.
struct Plan {
    skip: u64,
    count: u64,
    code: Code,
}

#[derive(Default)]
struct State {
    calls: HashMap<&'static str, u64>,
    plans: HashMap<String, Plan>,
}

/// Calls so far, and failures to come.
pub struct Faults(LazyLock<Mutex<State>>);

impl Faults {
    pub const fn new() -> Faults {
        Faults(LazyLock::new(Mutex::default))
    }

    /// Counts a call of `symbol`; the code to return at once, if one is planned.
    pub fn enter(&self, symbol: &'static str) -> Option<Code> {
        let mut state = lock(&self.0);
        *state.calls.entry(symbol).or_default() += 1;
        [symbol, ANY].into_iter().find_map(|name| state.plans.get_mut(name).and_then(Plan::next))
    }

    /// Replaces the plan of `symbol` ("*" = of every one without its own); a count of 0 takes it away.
    pub fn plan(&self, symbol: &str, skip: u64, count: u64, code: Code) {
        lock(&self.0).plans.insert(symbol.to_owned(), Plan { skip, count, code });
    }

    /// Calls of `symbol` so far ("*" = of all), failed ones too.
    pub fn calls(&self, symbol: &str) -> u64 {
        let state = lock(&self.0);
        if symbol == ANY {
            return state.calls.values().sum();
        }
        state.calls.get(symbol).copied().unwrap_or(0)
    }
}

impl Plan {
    fn next(&mut self) -> Option<Code> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        Some(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::Faults;

    #[test]
    fn a_plan_skips_then_fails_then_passes() {
        let faults = Faults::new();
        faults.plan("cuInit", 1, 2, 7);
        let codes: Vec<_> = (0..4).map(|_| faults.enter("cuInit")).collect();
        assert_eq!(codes, [None, Some(7), Some(7), None]);
        assert_eq!((faults.calls("cuInit"), faults.calls("cuOther"), faults.calls("*")), (4, 0, 4));
    }

    #[test]
    fn a_star_means_every_call() {
        let faults = Faults::new();
        faults.plan("*", 0, 1, 9);
        assert_eq!((faults.enter("cuInit"), faults.enter("cuInit")), (Some(9), None));
    }
}
