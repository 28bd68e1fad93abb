// What clients ask for: arrivals and lengths of a real trace, with prompts made up to those lengths.
#pragma once

#include "llama.h"

#include <cstdint>
#include <vector>

class Model;
struct Options;

// Classes of requests; `/metrics` keeps them apart.
constexpr const char *ENDPOINTS[] = {"chat", "completions"};

// One request as its client sends it.
struct Ask {
    std::uint64_t id;
    std::uint64_t after_ns;          // since the start of the run
    std::size_t endpoint;            // of ENDPOINTS
    std::vector<llama_token> prompt;
    std::uint32_t answer_max;        // tokens
    std::uint32_t leaves_after;      // tokens, then the client is gone; STAYS = it waits for the end
};
constexpr std::uint32_t STAYS = UINT32_MAX;

// In order of arrival. Throws if the trace cannot be read.
std::vector<Ask> read_workload(const Options &options, const Model &model);
