// The command line: what it may say, and what holds if it says nothing.
#pragma once

#include <cstdint>
#include <string>

struct Options {
    std::string model;                   // GGUF file
    std::string backends;                // folder of libggml-cpu-*.so
    std::string trace;                   // CSV: TIMESTAMP,ContextTokens,GeneratedTokens
    double speed = 1;                    // of the trace's clock; 0 = all requests are there at the start
    std::uint32_t requests = 160;        // rows of the trace
    std::uint32_t prompt_max = 128;      // tokens; longer prompts are cut
    std::uint32_t answer_max = 64;       // tokens; longer answers end by length
    std::uint32_t context = 1024;        // KV cells, shared by all sequences
    std::uint32_t slots = 8;             // sequences in a batch
    std::uint32_t budget = 256;          // tokens in a batch
    std::int32_t threads = 1;            // more than one spin at barriers when the machine is busy
    std::uint32_t queue_max = 64;        // requests that may wait; 0 = any number
    std::uint32_t patience_ms = 10'000;  // without a first token for so long, a client leaves
    std::uint32_t abort_every = 9;       // of so many clients one leaves midway; 0 = none
    std::uint32_t steps_max = 0;         // stop here, whatever is in flight; 0 = serve all requests
    bool is_recording = true;            // false = every verb goes to an empty recorder
    std::string listen = "127.0.0.1:0";  // of /metrics
    std::string truth;                   // file for the engine's own record
    bool is_holding = false;             // answer scrapes until standard input ends
    std::uint32_t texts = 0;             // answers to print
    std::uint32_t compare = 0;           // pairs of runs, with and without recorder, instead of one run
};

// Exits with a sentence if the command line cannot be understood, and after --help.
Options parse_options(int argc, char **argv);
