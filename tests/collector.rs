//! A scope inside an engine's own prometheus-client Registry.
#![allow(missing_docs)]

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use stepscope::{Class, Config, Outcome, Stepscope, Time};

#[test]
fn an_engines_registry_shows_its_own_metrics_and_ours() {
    let config = Config { listen: None, model: "m\"x".into(), ..Config::default() };
    let scope = Stepscope::start(config).unwrap();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    let req = rec.arrive(chat, 1, Time::from_nanos(1_000));
    rec.finish(req, Time::from_nanos(30_001_000), Outcome::Aborted);

    let mut registry = Registry::default();
    let own = Counter::<u64>::default();
    registry.register("engine_things", "Things of the engine", own.clone());
    own.inc();
    registry.register_collector(Box::new(scope.collector()));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();

    for line in [
        "engine_things_total 1\n",
        "# TYPE llm_requests counter\n",
        "status=\"aborted\"} 1\n",
        "# TYPE llm_worker info\n",
        "# TYPE llm_request_duration_seconds histogram\n",
        "model=\"m\\\"x\"",
        "# EOF\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    let bucket = |le: &str| {
        let wanted = format!("le=\"{le}\"");
        let line = text.lines().find(|line| {
            line.starts_with("llm_request_duration_seconds_bucket")
                && line.contains(&wanted)
                && line.contains("status=\"aborted\"")
        });
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_string)
    };
    // 30 ms lies in the bucket whose bound it is, and the last bound is the format's infinity.
    assert_eq!(bucket("0.02").as_deref(), Some("0"));
    assert_eq!(bucket("0.03").as_deref(), Some("1"));
    assert_eq!(bucket("+Inf").as_deref(), Some("1"));
}
