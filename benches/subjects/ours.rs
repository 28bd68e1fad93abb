//! stepscope: a batch's tokens in one call, one token, a request's life, nothing at all.

use super::{ROUND, peer};
use std::hint::black_box;
use std::time::Instant;
use stepscope::{Class, Outcome, Recorder, Request, Series, Step, Stepscope, Time};
use stepscope_benches::{Bench, CASES, Case, quiet_scope, recorder};
use stepscope_benches::{Subject, measured_loop};

/// The batches whose cost per token is compared.
const BATCHES: [(&str, &str); 6] = [
    ("stepscope, batch of 256", "equal_256"),
    ("stepscope, batch of 64", "equal_64"),
    ("stepscope, 256, one in ten odd", "10_percent_odd_256"),
    ("stepscope, 256, six classes", "6_classes_256"),
    ("stepscope, 256, 1 to 4 accepted", "accepted_1_to_4_256"),
    ("stepscope, 256, all different", "all_different_256"),
];

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let batches = BATCHES.iter().filter_map(|(name, case)| {
        let case = CASES.iter().find(|known| known.name == *case)?;
        Some(Box::new(Tokens { name, case: *case, bench: Bench::new(*case) }) as Box<dyn Subject>)
    });
    let verbs: [Box<dyn Subject>; 3] = [Box::new(Token::new()), Box::new(Life::new()), disabled()];
    batches.chain(verbs).collect()
}

/// ns per token; the loop around the call is measured too and subtracted.
struct Tokens {
    name: &'static str,
    case: Case,
    bench: Bench,
}

impl Tokens {
    fn pass(&mut self, with: bool) -> f64 {
        // As many as the ring holds at worst; the first of a round finds cold caches.
        let steps = 60;
        let mut ns = 0;
        let passes = (ROUND / self.case.batch / steps).max(1);
        for _ in 0..passes {
            let begin = Instant::now();
            for _ in 0..steps {
                let step = self.bench.prepare();
                if with {
                    self.bench.tokens(&step)
                } else {
                    black_box(&mut self.bench);
                }
            }
            ns += begin.elapsed().as_nanos();
            if !with {
                self.bench.skip()
            }
            self.bench.drain()
        }
        ns as f64 / (passes * steps * self.case.batch) as f64
    }
}

impl Subject for Tokens {
    fn name(&self) -> &str {
        self.name
    }

    fn round(&mut self) -> f64 {
        let full = self.pass(true);
        full - self.pass(false)
    }

    fn count(&mut self, samples: usize) {
        for _ in 0..samples / self.case.batch {
            let step = self.bench.prepare();
            measured_loop(1, |_| self.bench.tokens(&step));
            self.bench.drain()
        }
        self.bench.check_nothing_lost()
    }
}

/// One sequence at a time, which an engine of batch 1 does.
struct Token {
    scope: Stepscope,
    rec: Recorder,
    req: Request,
    now: u64,
}

/// Tokens between two drains.
const TOKENS: usize = 4_096;

impl Token {
    fn new() -> Token {
        let scope = quiet_scope();
        let mut rec = recorder(&scope);
        let at = Time::from_nanos(1_000);
        let mut req = rec.arrive(scope.series(Class::endpoint("chat")), 1, at);
        rec.schedule(&mut req, at, 0, 0);
        Token { scope, rec, req, now: 1_000 }
    }

    fn batch(&mut self) {
        let Token { rec, req, now, .. } = self;
        measured_loop(TOKENS, |_| {
            *now += 1_000_000;
            rec.token(&Step::bench_at(Time::from_nanos(*now)), black_box(&mut *req), 1)
        })
    }

    fn drain(&self) {
        self.scope.advance(Time::from_nanos(self.now))
    }
}

impl Subject for Token {
    fn name(&self) -> &str {
        "stepscope, one token"
    }

    fn round(&mut self) -> f64 {
        let begin = Instant::now();
        self.batch();
        let ns = begin.elapsed().as_nanos() as f64;
        self.drain();
        ns / TOKENS as f64
    }

    fn count(&mut self, samples: usize) {
        for _ in 0..samples / TOKENS {
            self.batch();
            self.drain()
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let req = std::mem::replace(&mut self.req, Request::empty());
        self.rec.finish(req, Time::from_nanos(self.now), Outcome::Stop)
    }
}

/// Six verbs and two tokens; ns per request.
struct Life {
    scope: Stepscope,
    rec: Recorder,
    class: Series,
    now: u64,
}

impl Life {
    fn new() -> Life {
        let scope = quiet_scope();
        let class = scope.series(Class::endpoint("chat"));
        Life { rec: recorder(&scope), scope, class, now: 1_000 }
    }

    fn live(&mut self) {
        let at = |ns| Time::from_nanos(self.now + ns);
        let mut req = self.rec.arrive(self.class, 1, at(0));
        self.rec.enqueue(&mut req, at(0));
        self.rec.schedule(&mut req, at(0), 0, 0);
        self.rec.token(&Step::bench_at(at(7)), &mut req, 1);
        self.rec.token(&Step::bench_at(at(99)), &mut req, 1);
        self.rec.finish(req, at(100), Outcome::Stop);
        self.now += 10_000_000
    }
}

impl Subject for Life {
    fn name(&self) -> &str {
        "stepscope, a request's life"
    }

    fn round(&mut self) -> f64 {
        let begin = Instant::now();
        measured_loop(1_000, |_| self.live());
        let ns = begin.elapsed().as_nanos() as f64;
        self.scope.advance(Time::from_nanos(self.now));
        ns / 1_000.0
    }

    fn count(&mut self, samples: usize) {
        for _ in 0..samples / 512 {
            measured_loop(512, |_| self.live());
            self.scope.advance(Time::from_nanos(self.now))
        }
    }
}

fn disabled() -> Box<dyn Subject> {
    let (mut rec, mut req) = (Recorder::disabled(), Request::empty());
    let step = Step::bench_at(Time::from_nanos(5));
    peer("stepscope, disabled token", ROUND, move |_| {
        black_box(&mut rec).token(black_box(&step), black_box(&mut req), 1)
    })
}
