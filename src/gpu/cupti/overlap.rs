//! Finds the step of a graph time that came without an id, by time alone.

/// A settled step on one stream, in the clock of the graph times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledStep {
    /// The lane that the step ran on.
    pub lane: u16,
    /// The step's number in its lane.
    pub seq: u64,
    /// Begin, in nanoseconds of `CLOCK_MONOTONIC`.
    pub begin: u64,
    /// End, in nanoseconds of `CLOCK_MONOTONIC`.
    pub end: u64,
    /// The bound of the error of both, in nanoseconds.
    pub error: u64,
}

/// Index of the one step that shares more of `start..end` than its own error bound explains.
///
/// None if no step does, or if two do: missing beats wrong. `steps` are those of the graph's stream.
///
/// # Example
/// Steps of 100..200 and 201..300, error 5: a graph of 120..203 is the first one's, because the 2 ns
/// shared with the second may be error; one of 120..220 is nobody's.
pub fn by_overlap(start: u64, end: u64, steps: &[SettledStep]) -> Option<usize> {
    let shared = |step: &SettledStep| end.min(step.end).saturating_sub(start.max(step.begin));
    let mut sure = steps.iter().enumerate().filter(|(_, step)| shared(step) > step.error);
    let (index, _) = sure.next()?;
    sure.next().is_none().then_some(index)
}

#[cfg(test)]
mod tests {
    use super::{SettledStep, by_overlap};

    fn step(seq: u64, begin: u64, end: u64, error: u64) -> SettledStep {
        SettledStep { lane: 0, seq, begin, end, error }
    }

    #[test]
    fn a_graph_inside_one_step_is_that_steps() {
        let steps = [step(1, 100, 200, 5), step(2, 201, 300, 5), step(3, 400, 500, 5)];
        assert_eq!(by_overlap(120, 190, &steps), Some(0));
        assert_eq!(by_overlap(210, 299, &steps), Some(1));
        assert_eq!(by_overlap(390, 510, &steps), Some(2), "the graph may be longer than its step");
    }

    #[test]
    fn what_the_error_explains_is_no_overlap() {
        let steps = [step(1, 100, 200, 5), step(2, 201, 300, 5)];
        assert_eq!(by_overlap(120, 206, &steps), Some(0), "5 ns of the second may be error");
        assert_eq!(by_overlap(120, 207, &steps), None, "6 ns cannot: two steps");
        assert_eq!(by_overlap(195, 201, &steps), None, "5 ns of the first may be error as well");
    }

    #[test]
    fn no_step_or_no_time_is_nobodys() {
        let steps = [step(1, 100, 200, 0)];
        assert_eq!(by_overlap(120, 130, &[]), None);
        assert_eq!(by_overlap(200, 300, &steps), None);
        assert_eq!(by_overlap(150, 150, &steps), None);
        assert_eq!(by_overlap(190, 110, &steps), None);
        assert_eq!(by_overlap(0, u64::MAX, &[step(1, 0, u64::MAX, u64::MAX)]), None);
    }
}
