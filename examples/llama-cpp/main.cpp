// A server loop over llama.cpp that stepscope observes: starts the scope, runs the engine, says what
// came of it. The last line of standard output is JSON. README.md tells the rest.
#include "engine.hpp"
#include "model.hpp"
#include "options.hpp"
#include "stepscope.hpp"
#include "truth.hpp"
#include "workload.hpp"

#include <cstdio>
#include <ctime>
#include <exception>
#include <string>

namespace {

constexpr std::uint32_t TTFT_OBJECTIVE_MS = 2000, TBT_OBJECTIVE_MS = 80;
constexpr std::uint32_t KV_BLOCK_TOKENS = 1; // a cell of llama.cpp's cache
constexpr std::uint64_t NS_PER_MS = 1'000'000;

// Who this is. The scope's copy labels every series; the truth file's says what they must be.
Truth::Run identity(const Options &options) {
    const auto from = options.model.find_last_of('/') + 1; // 0 without a folder
    const auto model = options.model.substr(from, options.model.rfind(".gguf") - from);
    return {model,
            "llama-0",
            "example-llama-cpp",
            llama_version(),
            "none",
            "local",
            TTFT_OBJECTIVE_MS * NS_PER_MS,
            TBT_OBJECTIVE_MS * NS_PER_MS,
            KV_BLOCK_TOKENS};
}

stepscope::Scope start_scope(const Truth::Run &run, const std::string &listen) {
    stepscope_config config = {};
    config.size = sizeof config;
    config.model = run.model.c_str();
    config.worker_id = run.worker_id.c_str();
    config.engine = run.engine.c_str();
    config.engine_version = run.engine_version.c_str();
    config.gpu_id = run.gpu_id.c_str();
    config.node = run.node.c_str();
    config.listen = listen.c_str();
    config.ttft_objective_ms = TTFT_OBJECTIVE_MS;
    config.tbt_objective_ms = TBT_OBJECTIVE_MS;
    config.kv_block_tokens = KV_BLOCK_TOKENS;
    auto scope = stepscope::Scope::start(config);
    // An engine serves on without telemetry.
    if (!scope) std::fprintf(stderr, "no telemetry: %s\n", stepscope_last_error());
    return scope;
}

std::vector<stepscope_series> classes(const stepscope::Scope &scope) {
    std::vector<stepscope_series> series;
    for (const auto *endpoint : ENDPOINTS) series.push_back(scope.series(endpoint));
    return series;
}

double seconds(clockid_t clock) {
    timespec time = {};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Serves the trace once, and answers scrapes of the result as long as it is asked to.
int serve(const Options &options, Model &model, const std::vector<Ask> &asks) {
    const auto run = identity(options);
    auto scope = start_scope(run, options.listen);
    const auto series = classes(scope);
    scope.mark_ready();
    std::printf("listening on port %u\n", static_cast<unsigned>(scope.port()));
    std::fflush(stdout);

    model.reset_own_counters();
    const double start = seconds(CLOCK_MONOTONIC);
    Engine engine(options, model, asks, options.is_recording ? scope.recorder("engine") : stepscope::Recorder(),
                  series, Truth(run));
    engine.run();
    const double took = seconds(CLOCK_MONOTONIC) - start;

    const auto &truth = engine.truth();
    const bool is_written = options.truth.empty() || truth.write(options.truth, stepscope::now());
    if (!is_written) std::fprintf(stderr, "engine: cannot write %s\n", options.truth.c_str());
    for (std::size_t i = 0; i < engine.texts().size(); i++) {
        std::printf("--- answer %zu\n%s\n", i, engine.texts()[i].c_str());
    }
    const auto own = model.own_counters();
    std::printf("llama_perf_context would say: %d prompt tokens, %d generated\n", own.n_p_eval, own.n_eval);
    std::printf("{\"ok\": %s, \"requests\": %zu, \"in_flight\": %llu, \"tokens\": %llu, \"steps\": %llu, "
                "\"kv_full\": %llu, \"refused_prefills\": %llu, \"seconds\": %.3f, \"tokens_per_second\": %.1f",
                is_written ? "true" : "false", asks.size(), static_cast<unsigned long long>(truth.in_flight()),
                static_cast<unsigned long long>(engine.tokens()), static_cast<unsigned long long>(engine.steps()),
                static_cast<unsigned long long>(engine.kv_full()),
                static_cast<unsigned long long>(engine.refused_prefills()), took,
                static_cast<double>(engine.tokens()) / took);
    for (const auto &[word, n] : truth.counts()) {
        std::printf(", \"%s\": %llu", word.c_str(), static_cast<unsigned long long>(n));
    }
    std::printf("}\n");
    std::fflush(stdout);
    while (options.is_holding && std::getchar() != EOF) {}
    // What is in flight is dropped with the engine, behind the last scrape.
    return is_written ? 0 : 1;
}

struct Speed {
    std::uint64_t tokens;
    double wall, cpu; // tokens per second, of the clock and of the process's CPU time
};

Speed measure(const Options &options, Model &model, const std::vector<Ask> &asks, stepscope::Recorder recorder,
              const std::vector<stepscope_series> &series) {
    const double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    Engine engine(options, model, asks, std::move(recorder), series, Truth());
    engine.run();
    const auto tokens = static_cast<double>(engine.tokens());
    return {engine.tokens(), tokens / (seconds(CLOCK_MONOTONIC) - start),
            tokens / (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)};
}

// Runs with and without recorder in one process, alternately, and who is first alternates too. The same
// requests, all there at the start, with equal seeds: the same steps.
int compare(const Options &options, Model &model, const std::vector<Ask> &asks) {
    const auto scope = start_scope(identity(options), options.listen);
    const auto series = classes(scope);
    const auto once = [&](bool is_recording) {
        return measure(options, model, asks, is_recording ? scope.recorder("engine") : stepscope::Recorder(), series);
    };
    once(false); // memory is touched for the first time
    bool is_same = true;
    std::string pairs;
    for (std::uint32_t pair = 0; pair < options.compare; pair++) {
        const bool is_on_first = pair % 2 == 0;
        const auto first = once(is_on_first), second = once(!is_on_first);
        const auto &on = is_on_first ? first : second, &off = is_on_first ? second : first;
        is_same = is_same && on.tokens == off.tokens;
        char line[256];
        std::snprintf(line, sizeof line, "%s{\"on\": %.2f, \"off\": %.2f, \"cpu_on\": %.2f, \"cpu_off\": %.2f}",
                      pairs.empty() ? "" : ", ", on.wall, off.wall, on.cpu, off.cpu);
        pairs += line;
    }
    std::printf("{\"same_work\": %s, \"pairs\": [%s]}\n", is_same ? "true" : "false", pairs.c_str());
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    auto options = parse_options(argc, argv);
    if (options.compare > 0) {
        options.speed = 0;
        options.queue_max = 0;
        options.patience_ms = 3'600'000;
    }
    try {
        Model model(options);
        const auto asks = read_workload(options, model);
        return options.compare > 0 ? compare(options, model, asks) : serve(options, model, asks);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "engine: %s\n", error.what());
        return 1;
    }
}
