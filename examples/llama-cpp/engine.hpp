// The engine: continuous batching over one llama.cpp context, and what it tells stepscope.
//
//   arrival ─▶ waiting ─▶ scheduling pass ─▶ llama_decode ─▶ outputs ─▶ next pass
//      │          ▲            │  │ 1: KV full                   ├─▶ first text to the client
//      ▼          └── evicted ─┘  ▼                              └─▶ end
//   rejected                      newest sequence evicted, another pass
//
// One batch holds one token of each sequence that decodes and, in the room that is left, chunks of
// prompts. Sequences share the KV cells of the context, more of them than there are cells for all: when
// llama_decode finds none, the newest sequence gives its cells back and is computed again later.
#pragma once

#include "model.hpp"
#include "stepscope.hpp"
#include "truth.hpp"
#include "workload.hpp"

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

struct Options;

class Engine {
public:
    // `recorder` may be empty: then the same verbs are called and do nothing.
    Engine(const Options &options, Model &model, const std::vector<Ask> &asks, stepscope::Recorder recorder,
           const std::vector<stepscope_series> &series, Truth truth);

    // Serves all requests, or as many steps as the options allow.
    void run();

    const Truth &truth() const { return truth_; }
    std::uint64_t tokens() const { return tokens_; }
    std::uint64_t steps() const { return steps_; }
    // Batches that found no cells, and those of all refused ones that held chunks of prompts.
    std::uint64_t kv_full() const { return kv_full_; }
    std::uint64_t refused_prefills() const { return refused_prefills_; }
    // The first answers, as many as the options ask for.
    const std::vector<std::string> &texts() const { return texts_; }

private:
    using Time = stepscope::Time;

    // One request in the engine's hands. Running ones lie in a row, as Recorder::tokens wants them.
    struct Sequence {
        stepscope::Request request;
        stepscope_stream stream = {};
        const Ask *ask = nullptr;
        Time recv = 0;
        std::vector<llama_token> tokens; // prompt and answer so far
        std::uint32_t held = 0;          // of these, positions in the KV cache
        std::uint32_t computed = 0;      // the most it ever held
        std::uint32_t chunk = 0;         // positions in this step
        std::int32_t logits = -1;        // where this step's batch has them; -1 = nothing to sample
        llama_seq_id slot = -1;
        Sampler sampler;

        std::uint32_t prompt() const { return static_cast<std::uint32_t>(ask->prompt.size()); }
        std::uint32_t length() const { return static_cast<std::uint32_t>(tokens.size()); }
        std::uint32_t answered() const { return length() - prompt(); }
        // All but its newest token is in the cache.
        bool is_decoding() const { return answered() > 0 && length() - held == 1; }
    };
    struct Ending {
        stepscope_outcome outcome;
        stepscope_error_type error;
    };

    void take_arrivals(Time now);
    void arrive(const Ask &ask, Time now);
    void drop_the_impatient(Time now);
    void admit(Time now);
    std::uint32_t cells_needed() const;
    void step(Time now);
    stepscope_shape build_batch();
    void evict_newest(Time now);
    void fail_all(Time now, stepscope_error_type why);
    void account_prefill();
    void outputs(const stepscope::Step &step, Time end);
    bool is_over(const Sequence &sequence, Time now, Ending &how) const;
    bool has_left(const Sequence &sequence, Time now) const;
    void finish(Sequence &&sequence, Time at, Ending how);
    void report_kv();
    void report_queue();
    void pause_until_next(Time now) const;

    const Options &options_;
    Model &model_;
    const std::vector<Ask> &asks_;
    stepscope::Recorder rec_;
    const std::vector<stepscope_series> &series_;
    Truth truth_;

    Time start_ = 0;
    std::size_t arrived_ = 0;
    std::deque<Sequence> waiting_;
    std::vector<Sequence> running_; // in order of admission
    std::vector<llama_seq_id> free_slots_;
    std::vector<std::uint32_t> accepted_; // of this step, by place in running_
    std::uint64_t tokens_ = 0, steps_ = 0, kv_full_ = 0, refused_prefills_ = 0;
    std::vector<std::string> texts_;
};
