// Reads the trace and makes up the prompts, of which a trace has only the lengths.
#include "workload.hpp"

#include "model.hpp"
#include "options.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

constexpr const char *QUESTIONS[] = {
    "Write a short story about a lighthouse keeper who finds a letter.",
    "Explain how a steam engine works.",
    "What should I look at when I buy an old boat?",
    "Describe a morning in a small harbour town.",
    "Why is the sea salty?",
};
// Read before the question, as often as the trace's length asks for.
constexpr const char *BEFORE =
    "The harbour lies on the north side of the bay. In winter the boats stay in, and the men mend nets "
    "and talk about the weather. The lighthouse was built of grey stone in two summers, and its lamp can "
    "be seen from twenty miles away. When fog comes in from the sea, the keeper rings a bell every two "
    "minutes. Steam ships carried coal along this coast until the railway came; the engines were fired "
    "by hand, and a good stoker knew by the sound how much water was left in the boiler. The market is "
    "held on Saturdays behind the church. ";

struct Row {
    std::uint64_t after_ns;
    std::uint32_t prompt, answer;
};

// `2023-11-16 18:17:03.9799600,374,44`: no excerpt is longer than a day, so the date is left out.
Row parse(const std::string &line) {
    unsigned hour = 0, minute = 0, prompt = 0, answer = 0;
    double second = 0;
    if (std::sscanf(line.c_str(), "%*u-%*u-%*u %u:%u:%lf,%u,%u", &hour, &minute, &second, &prompt, &answer) != 5) {
        throw std::runtime_error("no row of TIMESTAMP,ContextTokens,GeneratedTokens: " + line);
    }
    return {static_cast<std::uint64_t>((hour * 3600.0 + minute * 60.0 + second) * 1e9), prompt, answer};
}

std::vector<Row> read_rows(const Options &options) {
    std::ifstream file(options.trace);
    std::string line;
    if (!std::getline(file, line)) throw std::runtime_error("cannot read " + options.trace);
    std::vector<Row> rows; // the first line was the header
    while (rows.size() < options.requests && std::getline(file, line)) rows.push_back(parse(line));
    if (rows.size() < options.requests) {
        throw std::runtime_error(options.trace + " has only " + std::to_string(rows.size()) + " requests");
    }
    return rows;
}

// Prompts of a wanted length: what comes before the question is cut to fit, the question never.
class Prompts {
public:
    explicit Prompts(const Model &model) {
        const auto frame = model.frame();
        head_ = model.tokens(frame.before, true);
        filler_ = model.tokens(BEFORE, false);
        for (const auto *question : QUESTIONS) {
            tails_.push_back(model.tokens("\n\n" + std::string(question) + frame.behind, false));
        }
    }

    std::vector<llama_token> make(std::uint64_t id, std::size_t length) const {
        const auto &tail = tails_[id % tails_.size()];
        auto prompt = head_;
        for (std::size_t i = 0; prompt.size() + tail.size() < length; i++) {
            prompt.push_back(filler_[i % filler_.size()]);
        }
        prompt.insert(prompt.end(), tail.begin(), tail.end());
        return prompt;
    }

private:
    std::vector<llama_token> head_, filler_;
    std::vector<std::vector<llama_token>> tails_;
};

// Of `every` clients one leaves: some before their first token, some in the middle of the answer.
std::uint32_t patience_of(std::uint64_t id, std::uint32_t every, std::uint32_t answer) {
    if (every == 0 || id % every != every / 2) return STAYS;
    return id / every % 3 == 0 ? 0 : answer / 2;
}

} // namespace

std::vector<Ask> read_workload(const Options &options, const Model &model) {
    const Prompts prompts(model);
    const auto rows = read_rows(options);
    std::vector<Ask> asks;
    for (const auto &row : rows) {
        const auto id = static_cast<std::uint64_t>(asks.size());
        const auto since = row.after_ns - std::min(row.after_ns, rows.front().after_ns);
        Ask ask;
        ask.id = id;
        ask.after_ns = options.speed > 0 ? static_cast<std::uint64_t>(static_cast<double>(since) / options.speed) : 0;
        ask.endpoint = id % 4 == 0 ? 1 : 0;
        ask.prompt = prompts.make(id, std::min(row.prompt, options.prompt_max));
        ask.answer_max = std::clamp(row.answer, 1U, options.answer_max);
        ask.leaves_after = patience_of(id, options.abort_every, ask.answer_max);
        asks.push_back(std::move(ask));
    }
    return asks;
}
