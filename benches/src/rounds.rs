//! Rounds of all subjects, interleaved: drift of the machine hits all alike.

/// One recorder of latencies, doing one thing to one sample.
pub trait Subject {
    /// In tables and files.
    fn name(&self) -> &str;

    /// One round of about a millisecond: ns per sample.
    fn round(&mut self) -> f64;

    /// Records so many samples, each inside of [`measured_loop`], where callgrind counts.
    fn count(&mut self, samples: usize);
}

/// Around what is measured; its name is what callgrind looks for.
#[inline(never)]
pub fn measured_loop(n: usize, mut operation: impl FnMut(usize)) {
    for i in 0..n {
        operation(i)
    }
}

/// So many rounds of every subject, each round beginning with another one: by subject, ns per sample of
/// each round.
pub fn interleave(subjects: &mut [Box<dyn Subject>], rounds: usize) -> Vec<Vec<f64>> {
    let n = subjects.len();
    let mut samples = vec![Vec::with_capacity(rounds); n];
    // The first touches memory and fills caches.
    for subject in subjects.iter_mut() {
        let _ = subject.round();
    }
    for round in 0..rounds {
        for i in 0..n {
            let which = (i + round) % n;
            samples[which].push(subjects[which].round())
        }
    }
    samples
}
