// A minimal engine in C++: continuous batching with preemption, told to stepscope step by step.
// The model is a pause. Run it with ./run.sh.
#include "stepscope.hpp"

#include <chrono>
#include <cstdio>
#include <deque>
#include <string>
#include <thread>
#include <vector>

struct Sequence {
    stepscope::Request request;
    std::uint32_t prompt_left = 0, answer_left = 0, positions = 0;
};

int main() {
    constexpr std::uint32_t requests = 24, slots = 4, block = 16, blocks = 64;
    stepscope_config config = {};
    config.size = sizeof config;
    config.model = "pause-1b";
    config.engine = "example-cpp";
    config.listen = "127.0.0.1:0";
    config.kv_block_tokens = block;
    auto scope = stepscope::Scope::start(config);
    if (!scope) std::fprintf(stderr, "no telemetry: %s\n", stepscope_last_error());
    auto rec = scope.recorder("engine");
    const auto chat = scope.series("chat");
    scope.mark_ready();

    std::deque<Sequence> waiting;
    std::vector<Sequence> running; // in a row, as Recorder::tokens wants them
    for (std::uint32_t id = 0; id < requests; id++) {
        const auto now = stepscope::now();
        Sequence sequence{rec.arrive(chat, id, now), 100 + 40 * (id % 9), 12 + id % 5};
        rec.enqueue(sequence.request, now);
        waiting.push_back(std::move(sequence));
    }
    const auto blocks_used = [&] {
        std::uint32_t used = 0;
        for (const auto &s : running) used += (s.positions + s.prompt_left) / block + 1;
        return used;
    };
    const auto positions_used = [&] {
        std::uint32_t used = 0;
        for (const auto &s : running) used += s.positions;
        return used;
    };
    std::uint64_t ended = 0, tokens = 0, preempted = 0;
    while (ended < requests) {
        const auto now = stepscope::now(); // one read per pass
        while (!waiting.empty() && running.size() < slots) {
            rec.schedule(waiting.front().request, now);
            running.push_back(std::move(waiting.front()));
            waiting.pop_front();
        }
        while (blocks_used() > blocks && running.size() > 1) { // no room: the newest computes again later
            auto &victim = running.back();
            rec.preempt(victim.request, now, STEPSCOPE_PREEMPT_MEMORY);
            victim.prompt_left += std::exchange(victim.positions, 0U);
            waiting.push_front(std::move(victim));
            running.pop_back();
            preempted++;
        }
        stepscope_shape shape = {};
        for (auto &s : running) {
            s.prompt_left > 0 ? shape.prefills++ : shape.decodes++;
            shape.prefill_tokens += s.prompt_left;
            if (s.prompt_left > 0) rec.prefill(s.request, s.prompt_left); // no step of this engine can fail
            s.positions += s.prompt_left > 0 ? std::exchange(s.prompt_left, 0U) : 1U;
        }
        auto step = rec.begin_step(now, shape);
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        rec.end_step(step, stepscope::now()); // the second read
        rec.tokens(step, running.data(), running.size(), &Sequence::request);
        tokens += running.size();
        for (std::size_t i = running.size(); i-- > 0;) {
            if (--running[i].answer_left > 0) continue;
            rec.finish(std::move(running[i].request), step.time(), STEPSCOPE_STOP);
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
            ended++;
        }
        rec.kv({}, blocks_used(), 0, blocks, positions_used());
        rec.queue(STEPSCOPE_WAIT_CAPACITY, {}, static_cast<std::uint32_t>(waiting.size()));
    }
    std::string body; // for an engine that serves /metrics by itself
    scope.metrics([&](const char *data, std::size_t length) { body.append(data, length); });
    const auto end = scope.snapshot();
    const bool ok = end.sum("llm_requests_total") == static_cast<double>(ended) &&
                    end.sum("llm_generated_tokens_total") == static_cast<double>(tokens) &&
                    end.sum("llm_preemption_total") == static_cast<double>(preempted) && preempted > 0 &&
                    end.sum("llm_invalid_total") == 0 && body.find("llm_requests_total{") != std::string::npos;
    scope.shutdown(0);
    std::printf("{\"ok\": %s, \"requests\": %llu, \"tokens\": %llu, \"preempted\": %llu}\n", ok ? "true" : "false",
                static_cast<unsigned long long>(ended), static_cast<unsigned long long>(tokens),
                static_cast<unsigned long long>(preempted));
    return ok ? 0 : 1;
}
