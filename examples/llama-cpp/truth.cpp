// Keeps the record and writes it.
#include "truth.hpp"

#include <algorithm>
#include <cstdio>

namespace {

constexpr const char *OUTCOMES[] = {"stop", "length", "handover", "aborted", "failed", "rejected"};
constexpr const char *ERRORS[] = {"oom", "timeout", "crash", "overload", "internal", "input"};

std::string number_or_null(std::uint64_t value) { return value == 0 ? "null" : std::to_string(value); }
std::string word_or_null(const char *word) { return word == nullptr ? "null" : '"' + std::string(word) + '"'; }

// [1,2,3], or [[1,"memory"],...] with something behind each number.
std::string list(const std::vector<std::uint64_t> &times, const char *behind = nullptr) {
    std::string out = "[";
    for (const auto time : times) {
        if (out.size() > 1) out += ',';
        out += behind == nullptr ? std::to_string(time) : '[' + std::to_string(time) + ',' + behind + ']';
    }
    return out + ']';
}

const char *phase(stepscope_shape shape) {
    return shape.prefills == 0 ? "decode" : shape.decodes == 0 ? "prefill" : "mixed";
}

} // namespace

void Truth::arrived(std::uint64_t id, const char *endpoint, Time at) {
    if (!is_kept_) return;
    requests_.resize(id + 1);
    requests_[id].endpoint = endpoint;
    requests_[id].recv = at;
}

void Truth::enqueued(std::uint64_t id, Time at) {
    if (!is_kept_) return;
    requests_[id].enq = at;
    load_++;
}

void Truth::scheduled(std::uint64_t id, Time at) {
    if (!is_kept_) return;
    requests_[id].sched.push_back(at);
    running_++;
}

void Truth::prefilled(std::uint64_t id, std::uint32_t fresh, std::uint32_t again) {
    if (!is_kept_) return;
    requests_[id].prompt_computed += fresh;
    requests_[id].recomputed += again;
}

void Truth::evicted(std::uint64_t id, Time at) {
    if (!is_kept_) return;
    requests_[id].evict.push_back(at);
    running_--;
    counts_["evicted"]++;
}

void Truth::token(std::uint64_t id, Time at) {
    if (is_kept_) requests_[id].tok.push_back(at);
}

void Truth::emitted(std::uint64_t id, Time at) {
    if (is_kept_ && requests_[id].emit == 0) requests_[id].emit = at;
}

void Truth::ended(std::uint64_t id, Time at, stepscope_outcome outcome, stepscope_error_type error) {
    if (!is_kept_) return;
    auto &request = requests_[id];
    running_ -= request.is_running() ? 1 : 0;
    request.end = at;
    request.outcome = OUTCOMES[outcome];
    request.error = outcome == STEPSCOPE_FAILED || outcome == STEPSCOPE_REJECTED ? ERRORS[error] : nullptr;
    counts_[request.outcome]++;
    ended_++;
    if (request.enq == 0) return;
    load_--;
    load_low_ = std::min(load_low_, load_);
    if (load_ == 0) batch_ = 0;
}

void Truth::step_begun(Time at, stepscope_shape shape) {
    if (!is_kept_) return;
    open_ = {at, 0, load_low_ > 0, shape, 0, 0};
    load_low_ = load_;
}

void Truth::step_ended(Time at) {
    if (!is_kept_) return;
    open_.end = at;
    steps_.push_back(open_);
    batch_ = load_ > 0 ? open_.shape.prefills + open_.shape.decodes : 0;
}

void Truth::kv(std::uint32_t referenced, std::uint32_t usable) {
    if (!is_kept_) return;
    kv_referenced_ = steps_.back().kv_referenced = referenced;
    kv_usable_ = steps_.back().kv_usable = usable;
}

bool Truth::write(const std::string &path, Time at) const {
    const std::string part = path + ".part";
    std::FILE *file = std::fopen(part.c_str(), "w");
    if (file == nullptr) return false;
    std::fprintf(file,
                 R"({"kind":"run","model":"%s","worker_id":"%s","role":"both","engine":"%s","engine_version":"%s",)"
                 R"("gpu_id":"%s","node":"%s","ttft_objective_ns":%llu,"tbt_objective_ns":%llu,"kv_block_tokens":%u})"
                 "\n",
                 run_.model.c_str(), run_.worker_id.c_str(), run_.engine.c_str(), run_.engine_version.c_str(),
                 run_.gpu_id.c_str(), run_.node.c_str(), static_cast<unsigned long long>(run_.ttft_objective_ns),
                 static_cast<unsigned long long>(run_.tbt_objective_ns), run_.kv_block_tokens);
    for (const auto &step : steps_) {
        std::fprintf(file,
                     R"({"kind":"step","begin":%llu,"gpu_ns":null,"idle_before_ns":null,"work":"%s","end":%llu,)"
                     R"("processed":%llu,"phase":"%s","sequences":%u,"source":"host",)"
                     R"("kv_referenced":%u,"kv_usable":%u})"
                     "\n",
                     static_cast<unsigned long long>(step.begin), step.has_work ? "waiting" : "none",
                     static_cast<unsigned long long>(step.end), static_cast<unsigned long long>(step.end),
                     phase(step.shape), step.shape.prefills + step.shape.decodes, step.kv_referenced, step.kv_usable);
    }
    for (std::size_t id = 0; id < requests_.size(); id++) {
        const auto &r = requests_[id];
        std::fprintf(file,
                     R"({"kind":"request","id":%zu,"endpoint":"%s","priority":"default","recv":%llu,"enq":%s,)"
                     R"("sched":%s,"evict":%s,"tok":%s,"emit":%s,"end":%s,"outcome":%s,"error":%s,)"
                     R"("prompt_computed":%llu,"prompt_cached":0,"recomputed":%llu,"drafted":0,"draft_accepted":0,)"
                     R"("stop_surplus":0})"
                     "\n",
                     id, r.endpoint.c_str(), static_cast<unsigned long long>(r.recv), number_or_null(r.enq).c_str(),
                     list(r.sched).c_str(), list(r.evict, "\"memory\"").c_str(), list(r.tok, "1").c_str(),
                     number_or_null(r.emit).c_str(), number_or_null(r.end).c_str(), word_or_null(r.outcome).c_str(),
                     word_or_null(r.error).c_str(), static_cast<unsigned long long>(r.prompt_computed),
                     static_cast<unsigned long long>(r.recomputed));
    }
    const auto waiting = requests_.size() - ended_ - running_;
    std::fprintf(file,
                 R"({"kind":"end","at":%llu,"running":%llu,"waiting":%zu,"queue":{"capacity":%llu},"batch":%llu,)"
                 R"("kv_referenced":%u,"kv_cached":0,"kv_usable":%u,"kv_slots_used":%u})"
                 "\n",
                 static_cast<unsigned long long>(at), static_cast<unsigned long long>(running_), waiting,
                 static_cast<unsigned long long>(queue_), static_cast<unsigned long long>(batch_), kv_referenced_,
                 kv_usable_, kv_referenced_ * run_.kv_block_tokens);
    const bool is_written = std::ferror(file) == 0;
    return std::fclose(file) == 0 && is_written && std::rename(part.c_str(), path.c_str()) == 0;
}
