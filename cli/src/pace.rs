//! Simulated time: as fast as the wall clock, a multiple of it, or as fast as the engine can go.

use anyhow::bail;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};
use stepscope::{Clock, ManualClock, Time};

/// Longest sleep, so that an interrupt is seen soon.
pub const NAP: Duration = Duration::from_millis(20);

/// Simulated seconds per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// So many.
    Times(f64),
    /// As many as the engine can do.
    Max,
}

impl FromStr for Speed {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Speed> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Speed::Max),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
            _ => bail!("say a positive number, such as 10, or max"),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Times(times) => write!(f, "{times}"),
            Speed::Max => f.write_str("max"),
        }
    }
}

impl Serialize for Speed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Speed::Times(times) => serializer.serialize_f64(*times),
            Speed::Max => serializer.serialize_str("max"),
        }
    }
}

/// The one clock of a run: every engine is driven by it, one after another.
pub struct Pace {
    speed: Speed,
    start: Time,
    since: Instant,
    now: Time,
}

impl Pace {
    /// Time starts to run.
    pub fn new(speed: Speed) -> Pace {
        let now = Time::now();
        Pace { speed, start: now, since: Instant::now(), now }
    }

    /// The moment up to which the run has come.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A clock for a worker that starts now. At speed 1 it is the real one, so that the run is
    /// just what an engine of flesh and blood would do, aggregate thread included.
    pub fn clock(&self) -> Clock {
        match self.speed {
            Speed::Times(1.0) => Clock::Monotonic,
            _ => Clock::Manual(ManualClock::new(self.now)),
        }
    }

    /// Lets time pass until `due` or for one nap, and says what time it is then: never past `due`,
    /// so that whoever is behind catches up event by event.
    pub fn wait_until(&mut self, due: Time) -> Time {
        if let Speed::Times(times) = self.speed {
            let ahead = Duration::from_nanos(due.nanos_since(self.reading(times)));
            std::thread::sleep(ahead.div_f64(times).min(NAP));
            self.now = self.reading(times).min(due).max(self.now)
        } else {
            self.now = due.max(self.now)
        }
        self.now
    }

    fn reading(&self, times: f64) -> Time {
        match times {
            1.0 => Time::now(),
            _ => self.start.after(self.since.elapsed().mul_f64(times)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_positive_number_or_max() {
        assert_eq!("max".parse::<Speed>().unwrap(), Speed::Max);
        assert_eq!("2.5".parse::<Speed>().unwrap(), Speed::Times(2.5));
        for bad in ["0", "-1", "inf", "NaN", "fast", ""] {
            let error = bad.parse::<Speed>().unwrap_err().to_string();
            assert!(error.contains("or max"), "{error}");
        }
    }

    #[test]
    fn time_never_passes_what_is_due_and_max_does_not_wait() {
        let mut pace = Pace::new(Speed::Max);
        let hour = Duration::from_secs(3_600);
        let due = pace.now().after(hour);
        assert_eq!(pace.wait_until(due), due);
        assert!(pace.since.elapsed() < hour);

        let mut pace = Pace::new(Speed::Times(1e6));
        let due = pace.now().after(Duration::from_secs(1));
        while pace.wait_until(due) < due {}
        assert_eq!(pace.now(), due);
    }
}
