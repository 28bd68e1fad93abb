// llama.cpp as the engine uses it: a model, a context with one KV cache for all sequences, a batch.
#pragma once

#include "llama.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct Options;

// One C object of llama.cpp, freed by the function that llama.cpp has for it.
template <class T, void (*Free)(T *)>
struct FreeWith {
    void operator()(T *raw) const { Free(raw); }
};
template <class T, void (*Free)(T *)>
using Owned = std::unique_ptr<T, FreeWith<T, Free>>;

using Sampler = Owned<llama_sampler, llama_sampler_free>;

// What llama_decode said.
enum class Decoded { Done, KvFull, Failed };

class Model {
public:
    // Throws if the file cannot be loaded.
    explicit Model(const Options &options);
    ~Model();
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    // KV cells, shared by all sequences; also the most that one sequence may have.
    std::uint32_t cells() const { return llama_n_ctx(context_.get()); }
    // Cells that hold a position of one of the first `slots` sequences. llama.h has no function that
    // says it; positions do, as long as no two sequences share cells (llama_memory_seq_cp).
    std::uint32_t cells_used(std::uint32_t slots) const;
    void forget(llama_seq_id slot) { llama_memory_seq_rm(memory(), slot, -1, -1); }

    // The batch that decode() will take.
    void clear() { batch_.n_tokens = 0; }
    // Puts a token in it; its index, by which sample() finds the logits if they are wanted.
    std::int32_t add(llama_token token, std::size_t position, llama_seq_id slot, bool wants_logits);
    // Only enqueues the work where the backend is asynchronous; wait() ends it.
    Decoded decode();
    void wait() { llama_synchronize(context_.get()); }
    llama_token sample(const Sampler &sampler, std::int32_t index) const {
        return llama_sampler_sample(sampler.get(), context_.get(), index);
    }
    // Draws among the 40 likeliest tokens; equal seeds draw alike.
    Sampler sampler(std::uint32_t seed) const;

    bool is_end(llama_token token) const { return llama_vocab_is_eog(vocabulary_, token); }
    std::vector<llama_token> tokens(const std::string &text, bool is_start) const;
    std::string text(llama_token token) const;
    // What stands before and behind a user's message; empty if the model knows no chat.
    struct Frame {
        std::string before, behind;
    };
    Frame frame() const;
    // What llama.cpp's own counters say of prompt and generated tokens; README.md says why they are wrong here.
    llama_perf_context_data own_counters() const { return llama_perf_context(context_.get()); }
    void reset_own_counters() { llama_perf_context_reset(context_.get()); }

private:
    llama_memory_t memory() const { return llama_get_memory(context_.get()); }

    Owned<llama_model, llama_model_free> model_;
    Owned<llama_context, llama_free> context_;
    const llama_vocab *vocabulary_ = nullptr;
    llama_batch batch_ = {};
};
