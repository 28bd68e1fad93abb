// Calls llama.cpp.
#include "model.hpp"

#include "ggml-backend.h"
#include "options.hpp"

#include <cstdio>
#include <stdexcept>

namespace {

void only_errors(ggml_log_level level, const char *text, void *) {
    // A full KV cache is one of them, and no news: decode() says it.
    if (level == GGML_LOG_LEVEL_ERROR && std::string(text).find("failed to find a memory slot") == std::string::npos) {
        std::fputs(text, stderr);
    }
}

} // namespace

Model::Model(const Options &options) {
    llama_log_set(only_errors, nullptr);
    // Picks the library that was built for this CPU.
    ggml_backend_load_all_from_path(options.backends.c_str());
    llama_backend_init();

    auto of_model = llama_model_default_params();
    of_model.n_gpu_layers = 0;
    model_.reset(llama_model_load_from_file(options.model.c_str(), of_model));
    if (!model_) throw std::runtime_error("llama.cpp cannot load " + options.model);
    vocabulary_ = llama_model_get_vocab(model_.get());

    auto of_context = llama_context_default_params();
    of_context.n_ctx = options.context;
    of_context.n_batch = of_context.n_ubatch = options.budget;
    of_context.n_seq_max = options.slots;
    of_context.n_threads = of_context.n_threads_batch = options.threads;
    of_context.kv_unified = true;
    of_context.no_perf = false;
    context_.reset(llama_init_from_model(model_.get(), of_context));
    if (!context_) throw std::runtime_error("llama.cpp cannot make a context of these sizes");
    batch_ = llama_batch_init(static_cast<std::int32_t>(options.budget), 0, 1);
}

Model::~Model() { llama_batch_free(batch_); }

std::uint32_t Model::cells_used(std::uint32_t slots) const {
    std::uint32_t used = 0;
    for (llama_seq_id slot = 0; slot < static_cast<llama_seq_id>(slots); slot++) {
        const auto last = llama_memory_seq_pos_max(memory(), slot); // -1 = it has none
        if (last >= 0) used += static_cast<std::uint32_t>(last - llama_memory_seq_pos_min(memory(), slot) + 1);
    }
    return used;
}

std::int32_t Model::add(llama_token token, std::size_t position, llama_seq_id slot, bool wants_logits) {
    const auto i = batch_.n_tokens++;
    batch_.token[i] = token;
    batch_.pos[i] = static_cast<llama_pos>(position);
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = slot;
    batch_.logits[i] = wants_logits ? 1 : 0;
    return i;
}

Decoded Model::decode() {
    const auto said = llama_decode(context_.get(), batch_);
    // 1 leaves the cache as it was before the call.
    return said == 0 ? Decoded::Done : said == 1 ? Decoded::KvFull : Decoded::Failed;
}

Sampler Model::sampler(std::uint32_t seed) const {
    Sampler chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_k(40));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_temp(0.8F));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_dist(seed));
    return chain;
}

std::vector<llama_token> Model::tokens(const std::string &text, bool is_start) const {
    // No tokenizer makes more tokens than bytes, but for what it puts before and behind them.
    std::vector<llama_token> out(text.size() + 8);
    const auto n = llama_tokenize(vocabulary_, text.data(), static_cast<std::int32_t>(text.size()), out.data(),
                                  static_cast<std::int32_t>(out.size()), is_start, true);
    if (n < 0) throw std::runtime_error("llama.cpp cannot tokenize a prompt");
    out.resize(static_cast<std::size_t>(n));
    return out;
}

std::string Model::text(llama_token token) const {
    char piece[256];
    const auto n = llama_token_to_piece(vocabulary_, token, piece, sizeof piece, 0, false);
    return n > 0 ? std::string(piece, static_cast<std::size_t>(n)) : std::string();
}

Model::Frame Model::frame() const {
    const char *chat = llama_model_chat_template(model_.get(), nullptr);
    if (chat == nullptr) return {};
    const llama_chat_message message = {"user", "\x01"}; // stands where the message will stand
    char buffer[4096];
    const auto n = llama_chat_apply_template(chat, &message, 1, true, buffer, sizeof buffer);
    if (n <= 0 || n > static_cast<std::int32_t>(sizeof buffer)) return {}; // a template it does not know
    const std::string framed(buffer, static_cast<std::size_t>(n));
    const auto at = framed.find('\x01');
    if (at == std::string::npos) return {};
    return {framed.substr(0, at), framed.substr(at + 1)};
}
