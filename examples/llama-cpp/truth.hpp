// What the engine itself knows: its own raw record, in the form of docs/truth-format.md.
//
// It never passes through stepscope and asks nothing of it, so that /metrics can be checked against it.
// Times are the engine's own readings of the clock, counts its own; an outcome is a number of stepscope.h
// only to have one name for it.
#pragma once

#include "stepscope.h"

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

class Truth {
public:
    using Time = std::uint64_t; // ns, CLOCK_MONOTONIC

    // Identity and settings, as the scope was told them.
    struct Run {
        std::string model, worker_id, engine, engine_version, gpu_id, node;
        Time ttft_objective_ns, tbt_objective_ns;
        std::uint32_t kv_block_tokens;
    };

    // Without a `Run` it keeps nothing: for runs whose speed is measured.
    Truth() = default;
    explicit Truth(Run run) : is_kept_(true), run_(std::move(run)) {}

    void arrived(std::uint64_t id, const char *endpoint, Time at);
    void enqueued(std::uint64_t id, Time at);
    void scheduled(std::uint64_t id, Time at);
    // Positions computed: the first time of the prompt, and once more after an eviction.
    void prefilled(std::uint64_t id, std::uint32_t fresh, std::uint32_t again);
    void evicted(std::uint64_t id, Time at);
    // The step that ended last gave it a token.
    void token(std::uint64_t id, Time at);
    void emitted(std::uint64_t id, Time at);
    void ended(std::uint64_t id, Time at, stepscope_outcome outcome, stepscope_error_type error);

    void step_begun(Time at, stepscope_shape shape);
    void step_ended(Time at);
    // Once per step, behind its end.
    void kv(std::uint32_t referenced, std::uint32_t usable);
    void queue(std::uint32_t waiting) { queue_ = waiting; }

    // Requests that ended so, by the words of the format; also `evicted`, which is no end.
    const std::map<std::string, std::uint64_t> &counts() const { return counts_; }
    std::uint64_t in_flight() const { return requests_.size() - ended_; }

    // Writes the file: whole or not at all. False if it cannot be written.
    bool is_kept() const { return is_kept_; }
    bool write(const std::string &path, Time at) const;

private:
    struct Request {
        std::string endpoint;
        Time recv = 0, enq = 0, emit = 0, end = 0; // 0 = not yet
        std::vector<Time> sched, evict, tok;
        const char *outcome = nullptr, *error = nullptr;
        std::uint64_t prompt_computed = 0, recomputed = 0;
        bool is_running() const { return end == 0 && sched.size() > evict.size(); }
    };
    struct Step {
        Time begin, end;
        bool has_work; // requests were in the scheduler's hands ever since the begin before
        stepscope_shape shape;
        std::uint32_t kv_referenced, kv_usable;
    };

    bool is_kept_ = false;
    Run run_ = {};
    std::vector<Request> requests_; // by id: they arrive in that order
    std::vector<Step> steps_;
    Step open_ = {};
    std::map<std::string, std::uint64_t> counts_;
    std::uint64_t ended_ = 0, running_ = 0, queue_ = 0, batch_ = 0;
    std::uint64_t load_ = 0, load_low_ = 0; // in the scheduler's hands: now, and the least since a step began
    std::uint32_t kv_referenced_ = 0, kv_usable_ = 0;
};
