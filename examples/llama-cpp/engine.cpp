// The loop, and every call to stepscope. Read `run` and `step` first.
//
// The clock is read once per scheduling pass (`now`), once when a step's outputs are there (`end`) and,
// if a first text or an end came of it, once when they were handled (`out`). Every verb gets one of
// these. Behind each verb stands the same fact for the engine's own record.
#include "engine.hpp"

#include "options.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace {

constexpr std::uint64_t NS_PER_MS = 1'000'000;
// Cells kept free per running sequence when another one is admitted: room for its next tokens, so that
// who was just evicted does not come back to be evicted again.
constexpr std::uint32_t HEADROOM = 4;

} // namespace

Engine::Engine(const Options &options, Model &model, const std::vector<Ask> &asks, stepscope::Recorder recorder,
               const std::vector<stepscope_series> &series, Truth truth)
    : options_(options), model_(model), asks_(asks), rec_(std::move(recorder)), series_(series),
      truth_(std::move(truth)) {
    running_.reserve(options.slots);
    for (auto slot = static_cast<llama_seq_id>(options.slots); slot-- > 0;) {
        model.forget(slot);
        free_slots_.push_back(slot);
    }
    texts_.resize(std::min<std::size_t>(options.texts, asks.size()));
}

void Engine::run() {
    start_ = stepscope::now();
    while (arrived_ < asks_.size() || !waiting_.empty() || !running_.empty()) {
        const Time now = stepscope::now();
        take_arrivals(now);
        drop_the_impatient(now);
        admit(now);
        report_queue();
        if (running_.empty()) {
            pause_until_next(now);
            continue;
        }
        step(now);
        if (options_.steps_max > 0 && steps_ == options_.steps_max) break;
    }
}

// ------------------------------------------------------------ arrival to admission

void Engine::take_arrivals(Time now) {
    while (arrived_ < asks_.size() && start_ + asks_[arrived_].after_ns <= now) arrive(asks_[arrived_++], now);
}

void Engine::arrive(const Ask &ask, Time now) {
    Sequence sequence;
    sequence.ask = &ask;
    // It came while a step was under way; the engine sees it only now.
    sequence.recv = start_ + ask.after_ns;
    sequence.request = rec_.arrive(series_[ask.endpoint], ask.id, sequence.recv);
    truth_.arrived(ask.id, ENDPOINTS[ask.endpoint], sequence.recv);
    sequence.stream = sequence.request.stream();

    if (ask.prompt.size() + ask.answer_max > model_.cells()) {
        return finish(std::move(sequence), now, {STEPSCOPE_REJECTED, STEPSCOPE_INPUT});
    }
    if (options_.queue_max > 0 && waiting_.size() >= options_.queue_max) {
        return finish(std::move(sequence), now, {STEPSCOPE_REJECTED, STEPSCOPE_OVERLOAD});
    }
    sequence.tokens = ask.prompt;
    sequence.sampler = model_.sampler(static_cast<std::uint32_t>(ask.id));
    rec_.enqueue(sequence.request, now);
    truth_.enqueued(ask.id, now);
    waiting_.push_back(std::move(sequence));
}

// Who runs is looked after when a step's outputs are handled.
void Engine::drop_the_impatient(Time now) {
    for (auto i = waiting_.begin(); i != waiting_.end();) {
        if (!has_left(*i, now)) {
            ++i;
            continue;
        }
        finish(std::move(*i), now, {STEPSCOPE_ABORTED, 0});
        i = waiting_.erase(i);
    }
}

void Engine::admit(Time now) {
    while (!waiting_.empty() && !free_slots_.empty()) {
        auto &next = waiting_.front();
        const auto reserve = HEADROOM * static_cast<std::uint32_t>(running_.size());
        if (cells_needed() + next.length() + reserve > model_.cells()) break; // nobody overtakes
        next.slot = free_slots_.back();
        free_slots_.pop_back();
        rec_.schedule(next.request, now);
        truth_.scheduled(next.ask->id, now);
        running_.push_back(std::move(next));
        waiting_.pop_front();
    }
}

// Cells that the running sequences hold or will need for what they have to compute.
std::uint32_t Engine::cells_needed() const {
    std::uint32_t cells = 0;
    for (const auto &sequence : running_) cells += sequence.length();
    return cells;
}

// ------------------------------------------------------------ one step

void Engine::step(Time now) {
    const auto shape = build_batch();
    auto step = rec_.begin_step(now, shape);
    truth_.step_begun(now, shape);
    const auto decoded = model_.decode();
    if (decoded != Decoded::Done) {
        rec_.abandon(std::move(step)); // nothing was computed: no sample
        if (decoded == Decoded::KvFull) kv_full_++;
        if (shape.prefills > 0) refused_prefills_++;
        if (decoded == Decoded::KvFull && running_.size() > 1) return evict_newest(now);
        return fail_all(now, decoded == Decoded::KvFull ? STEPSCOPE_OOM : STEPSCOPE_INTERNAL);
    }
    rec_.launched(step); // for a lane on a GPU; nothing here
    account_prefill();
    model_.wait();
    const Time end = stepscope::now();
    rec_.end_step(step, end);
    truth_.step_ended(end);
    steps_++;
    outputs(step, end);
    report_kv();
}

// First the next token of those that decode, then prompts, oldest first, until the budget is used up.
stepscope_shape Engine::build_batch() {
    stepscope_shape shape = {};
    model_.clear();
    auto room = options_.budget;
    const auto add = [&](Sequence &s, std::uint32_t positions) {
        s.chunk = positions;
        for (std::uint32_t i = s.held; i < s.held + positions; i++) {
            const bool is_newest = i + 1 == s.length(); // its logits are those of the next token
            const auto index = model_.add(s.tokens[i], i, s.slot, is_newest);
            if (is_newest) s.logits = index;
        }
        room -= positions;
    };
    for (auto &s : running_) {
        s.chunk = 0;
        s.logits = -1;
        if (!s.is_decoding()) continue;
        add(s, 1);
        shape.decodes++;
    }
    for (auto &s : running_) {
        if (s.is_decoding() || room == 0) continue;
        add(s, std::min(s.length() - s.held, room));
        shape.prefills++;
        shape.prefill_tokens += s.chunk;
    }
    return shape;
}

void Engine::evict_newest(Time now) {
    auto &victim = running_.back();
    rec_.preempt(victim.request, now, STEPSCOPE_PREEMPT_MEMORY);
    truth_.evicted(victim.ask->id, now);
    model_.forget(victim.slot);
    free_slots_.push_back(victim.slot);
    victim.slot = -1;
    victim.held = 0; // its tokens stay: they are its prompt when it comes back
    waiting_.push_front(std::move(victim));
    running_.pop_back();
    report_queue();
}

void Engine::fail_all(Time now, stepscope_error_type why) {
    for (auto &sequence : running_) finish(std::move(sequence), now, {STEPSCOPE_FAILED, why});
    running_.clear();
}

// Told once llama_decode has taken the batch: a batch that it refuses computes nothing.
void Engine::account_prefill() {
    for (auto &s : running_) {
        if (s.chunk == 0) continue;
        const auto until = s.held + s.chunk;
        if (!s.is_decoding()) {
            rec_.prefill(s.request, s.chunk);
            // Up to `computed` it is done again; behind that, up to the prompt's end, for the first time.
            const auto again = std::min(until, s.computed) - std::min(s.held, s.computed);
            const auto from = std::min(std::max(s.held, s.computed), s.prompt());
            truth_.prefilled(s.ask->id, std::max(from, std::min(until, s.prompt())) - from, again);
        }
        s.held = until;
        s.computed = std::max(s.computed, until);
    }
}

void Engine::outputs(const stepscope::Step &step, Time end) {
    accepted_.assign(running_.size(), 0);
    bool is_read_again = false; // the clock
    for (std::size_t i = 0; i < running_.size(); i++) {
        auto &s = running_[i];
        if (s.logits >= 0) {
            s.tokens.push_back(model_.sample(s.sampler, s.logits));
            accepted_[i] = 1;
            tokens_++;
            truth_.token(s.ask->id, end);
            if (s.ask->id < texts_.size()) texts_[s.ask->id] += model_.text(s.tokens.back());
            is_read_again |= s.answered() == 1;
        }
        Ending how = {};
        is_read_again |= is_over(s, end, how);
    }
    rec_.tokens(step, running_.data(), running_.size(), &Sequence::request, accepted_.data());
    if (!is_read_again) return;

    const Time out = stepscope::now();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < running_.size(); i++) {
        auto &s = running_[i];
        if (accepted_[i] > 0 && s.answered() == 1) {
            rec_.emitted(s.stream, out);
            truth_.emitted(s.ask->id, out);
        }
        Ending how = {};
        if (is_over(s, end, how)) {
            finish(std::move(s), out, how);
        } else if (kept++ != i) {
            running_[kept - 1] = std::move(s);
        }
    }
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(kept), running_.end());
}

// ------------------------------------------------------------ the end of a request

bool Engine::is_over(const Sequence &s, Time now, Ending &how) const {
    if (s.answered() > 0 && model_.is_end(s.tokens.back())) how = {STEPSCOPE_STOP, 0};
    else if (s.answered() >= s.ask->answer_max) how = {STEPSCOPE_LENGTH, 0};
    else if (has_left(s, now)) how = {STEPSCOPE_ABORTED, 0};
    else return false;
    return true;
}

bool Engine::has_left(const Sequence &s, Time now) const {
    const bool is_served = s.held > 0 || s.answered() > 0;
    if (is_served && s.answered() >= s.ask->leaves_after) return true;
    return s.answered() == 0 && now > s.recv + options_.patience_ms * NS_PER_MS;
}

void Engine::finish(Sequence &&sequence, Time at, Ending how) {
    rec_.finish(std::move(sequence.request), at, how.outcome, how.error);
    truth_.ended(sequence.ask->id, at, how.outcome, how.error);
    if (sequence.slot < 0) return;
    model_.forget(sequence.slot);
    free_slots_.push_back(sequence.slot);
}

// ------------------------------------------------------------ levels

// A cell of llama.cpp's cache is a block of one token: it has no larger unit. Once per step, behind all
// that gives cells back, so that the level is right while the engine idles.
void Engine::report_kv() {
    if (!rec_ && !truth_.is_kept()) return; // an engine without recorder would not count
    const auto used = model_.cells_used(options_.slots);
    rec_.kv({}, used, 0, model_.cells(), used);
    truth_.kv(used, model_.cells());
}

void Engine::report_queue() {
    const auto waiting = static_cast<std::uint32_t>(waiting_.size());
    rec_.queue(STEPSCOPE_WAIT_CAPACITY, {}, waiting);
    truth_.queue(waiting);
}

void Engine::pause_until_next(Time now) const {
    if (arrived_ == asks_.size()) return;
    const Time next = start_ + asks_[arrived_].after_ns;
    if (next > now) std::this_thread::sleep_for(std::chrono::nanoseconds(next - now));
}
