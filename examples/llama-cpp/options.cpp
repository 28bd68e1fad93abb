// Reads the command line.
#include "options.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr const char *HELP =
    R"(engine --model GGUF --backends FOLDER --trace CSV [options]

  --speed X            of the trace's clock (1); 0 = all requests are there at the start
  --requests N         rows of the trace (160)
  --prompt-max N       tokens of a prompt, longer ones are cut (128)
  --answer-max N       tokens of an answer, longer ones end by length (64)
  --context N          KV cells, shared by all sequences (1024)
  --slots N            sequences in a batch (8)
  --budget N           tokens in a batch (64)
  --threads N          of llama.cpp (1)
  --queue-max N        requests that may wait, more are rejected (64); 0 = any number
  --patience MS        a client leaves if it has no first token by then (10000)
  --abort-every N      of so many clients one leaves midway (9); 0 = none
  --max-steps N        stop after so many steps, whatever is in flight (0 = never)
  --recorder on|off    off = the same calls on an empty recorder (on)
  --listen ADDRESS     of /metrics (127.0.0.1:0)
  --truth FILE         the engine's own record, in the form of docs/truth-format.md
  --hold               answer scrapes at the end until standard input ends
  --text N             print the first N answers
  --compare PAIRS      runs with and without recorder in turn; prints their tokens per second
)";

[[noreturn]] void refuse(const std::string &why) {
    std::fprintf(stderr, "engine: %s; see --help\n", why.c_str());
    std::exit(2);
}

double number(const char *name, const char *text) {
    char *end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0) || value > 1e9) {
        refuse(std::string(name) + " cannot be '" + text + "'");
    }
    return value;
}

} // namespace

Options parse_options(int argc, char **argv) {
    Options options;
    const auto is = [&](int i, const char *name) { return std::strcmp(argv[i], name) == 0; };
    for (int i = 1; i < argc; i++) {
        if (is(i, "--help")) {
            std::fputs(HELP, stdout);
            std::exit(0);
        }
        if (is(i, "--hold")) {
            options.is_holding = true;
            continue;
        }
        const char *name = argv[i];
        const auto text = [&]() -> const char * {
            if (++i == argc) refuse(std::string(name) + " lacks its value");
            return argv[i];
        };
        const auto count = [&] { return static_cast<std::uint32_t>(number(name, text())); };
        if (is(i, "--model")) options.model = text();
        else if (is(i, "--backends")) options.backends = text();
        else if (is(i, "--trace")) options.trace = text();
        else if (is(i, "--speed")) options.speed = number(name, text());
        else if (is(i, "--requests")) options.requests = count();
        else if (is(i, "--prompt-max")) options.prompt_max = count();
        else if (is(i, "--answer-max")) options.answer_max = count();
        else if (is(i, "--context")) options.context = count();
        else if (is(i, "--slots")) options.slots = count();
        else if (is(i, "--budget")) options.budget = count();
        else if (is(i, "--threads")) options.threads = static_cast<std::int32_t>(count());
        else if (is(i, "--queue-max")) options.queue_max = count();
        else if (is(i, "--patience")) options.patience_ms = count();
        else if (is(i, "--abort-every")) options.abort_every = count();
        else if (is(i, "--max-steps")) options.steps_max = count();
        else if (is(i, "--recorder")) options.is_recording = std::strcmp(text(), "off") != 0;
        else if (is(i, "--listen")) options.listen = text();
        else if (is(i, "--truth")) options.truth = text();
        else if (is(i, "--text")) options.texts = count();
        else if (is(i, "--compare")) options.compare = count();
        else refuse(std::string("unknown option ") + name);
    }
    if (options.model.empty() || options.backends.empty() || options.trace.empty()) {
        refuse("--model, --backends and --trace are needed");
    }
    if (options.slots == 0 || options.budget < options.slots) {
        refuse("--budget must hold a token of each of --slots sequences");
    }
    if (options.prompt_max == 0 || options.answer_max == 0) refuse("--prompt-max and --answer-max are at least 1");
    return options;
}
