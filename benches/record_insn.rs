//! Instructions per call of the hot verbs, by callgrind, with limits that do not depend on the
//! machine's mood. Skipped where valgrind or gungraun's runner is missing.
//!
//! A limit is per call: instructions per token x batch. Raising one needs a reason in the commit.
#![allow(missing_docs)]

use std::process::{Command, ExitCode};

mod counted {
    use gungraun::prelude::*;
    use gungraun::{Callgrind, EventKind};
    use std::hint::black_box;
    use stepscope::{Recorder, Request, Step};
    use stepscope_benches::{Bench, CASES, CBench, RING_EVENTS};

    /// A case in its steady state: the batch has emitted before, the next step is prepared.
    fn ready(name: &str) -> (Box<Bench>, Step) {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of the list");
        let mut bench = Box::new(Bench::new(*case));
        for _ in 0..16 {
            let step = bench.prepare();
            bench.tokens(&step);
            bench.drain()
        }
        let step = bench.prepare();
        (bench, step)
    }

    fn limit(instructions: u64) -> LibraryBenchmarkConfig {
        let mut callgrind = Callgrind::default();
        callgrind.hard_limits([(EventKind::Ir, instructions)]);
        let mut config = LibraryBenchmarkConfig::default();
        config.tool(callgrind);
        config
    }

    #[library_benchmark]
    #[bench::equal_64(args = ("equal_64"), setup = ready, config = limit(16 * 64))]
    #[bench::equal_256(args = ("equal_256"), setup = ready, config = limit(13 * 256))]
    #[bench::odd_10_percent_256(args = ("10_percent_odd_256"), setup = ready, config = limit(36 * 256))]
    #[bench::classes_6_256(args = ("6_classes_256"), setup = ready, config = limit(56 * 256))]
    #[bench::accepted_4_256(args = ("accepted_1_to_4_256"), setup = ready, config = limit(52 * 256))]
    #[bench::all_different_256(args = ("all_different_256"), setup = ready, config = limit(175 * 256))]
    fn tokens((mut bench, step): (Box<Bench>, Step)) -> Box<Bench> {
        bench.tokens(&step);
        bench
    }

    /// The same batch as `equal_*`, in an engine in C.
    fn ready_in_c(batch: usize) -> (Box<CBench>, Vec<u32>) {
        let mut bench = Box::new(CBench::new(batch, RING_EVENTS as u32));
        for _ in 0..16 {
            bench.prepare();
            bench.tokens(&vec![1; batch]);
            bench.drain()
        }
        bench.prepare();
        (bench, vec![1; batch])
    }

    // At most 1.3 of what Rust may cost.
    #[library_benchmark]
    #[bench::equal_64(args = (64), setup = ready_in_c, config = limit(16 * 64 * 13 / 10))]
    #[bench::equal_256(args = (256), setup = ready_in_c, config = limit(13 * 256 * 13 / 10))]
    fn tokens_in_c((mut bench, accepted): (Box<CBench>, Vec<u32>)) -> Box<CBench> {
        bench.tokens(&accepted);
        bench
    }

    fn disabled() -> Box<(Recorder, Request, Step)> {
        let step = Step::bench_at(stepscope::Time::from_nanos(5));
        Box::new((Recorder::disabled(), Request::empty(), step))
    }

    #[library_benchmark]
    #[bench::token(args = (), setup = disabled, config = limit(20))]
    fn disabled_verb(mut given: Box<(Recorder, Request, Step)>) -> Box<(Recorder, Request, Step)> {
        let (rec, req, step) = &mut *given;
        rec.token(black_box(step), black_box(req), 1);
        given
    }

    library_benchmark_group!(name = record, benchmarks = [tokens, tokens_in_c, disabled_verb]);
    gungraun::main!(library_benchmark_groups = record);

    pub(super) fn run() {
        main()
    }
}

fn main() -> ExitCode {
    for tool in ["valgrind", "gungraun-runner"] {
        if Command::new(tool).arg("--version").output().is_err() {
            let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
            println!("skipped: {tool} is missing");
            return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    }
    counted::run();
    ExitCode::SUCCESS
}
