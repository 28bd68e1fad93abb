// A minimal engine in C: continuous batching over four slots, told to stepscope step by step.
// The model is a pause. Run it with ./run.sh.
#define _POSIX_C_SOURCE 200809L
#include "stepscope.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { REQUESTS = 24, SLOTS = 4, CHUNK = 256, BLOCK = 16, BLOCKS = 512 };

// The library's request sits in the engine's own struct; stepscope_tokens walks over them.
typedef struct slot {
    stepscope_request request;
    uint32_t prompt_left, answer_left, positions;
    bool used;
} slot;

static double sum(const stepscope_snapshot *snapshot, const char *family) {
    double value = 0;
    stepscope_snapshot_sum(snapshot, family, NULL, 0, &value);
    return value;
}

int main(void) {
    stepscope_config config = {.size = sizeof config};
    config.model = "pause-1b";
    config.engine = "example-c";
    config.listen = "127.0.0.1:0";
    config.kv_block_tokens = BLOCK;
    stepscope_scope *scope = NULL; // NULL is fine everywhere: an engine serves on without telemetry
    stepscope_recorder *rec = NULL;
    stepscope_series chat = {0};
    const stepscope_pool kv = {0};
    if (stepscope_start(&config, &scope) != STEPSCOPE_OK)
        fprintf(stderr, "no telemetry: %s\n", stepscope_last_error());
    stepscope_intern_series(scope, "chat", NULL, &chat);
    stepscope_recorder_new(scope, "engine", NULL, 0, &rec);
    stepscope_mark_ready(scope);

    slot slots[SLOTS];
    memset(slots, 0, sizeof slots);
    uint64_t started = 0, ended = 0, tokens = 0;
    while (ended < REQUESTS) {
        uint64_t now = stepscope_now(); // one read per pass
        stepscope_shape shape = {0, 0, 0};
        uint32_t accepted[SLOTS] = {0};
        for (int i = 0; i < SLOTS; i++) {
            slot *s = &slots[i];
            if (!s->used && started < REQUESTS) {
                *s = (slot){.prompt_left = 100 + 40 * (uint32_t)(started % 9), .answer_left = 12, .used = true};
                s->request = stepscope_arrive(rec, chat, started++, now);
                stepscope_enqueue(rec, &s->request, now);
                stepscope_schedule(rec, &s->request, now, 0, 0);
            }
            if (s->used && s->prompt_left > 0) { // a chunk of the prompt; the last one samples the first token
                uint32_t n = s->prompt_left < CHUNK ? s->prompt_left : CHUNK;
                stepscope_prefill(rec, &s->request, n);
                shape.prefills++;
                shape.prefill_tokens += n;
                s->prompt_left -= n;
                s->positions += n;
            } else if (s->used) {
                shape.decodes++;
                s->positions++;
            }
            accepted[i] = s->used && s->prompt_left == 0;
        }
        stepscope_step step = stepscope_begin_step(rec, now, shape);
        nanosleep(&(struct timespec){0, 200000}, NULL); // the model
        stepscope_end_step(rec, &step, stepscope_now()); // the second read
        stepscope_tokens(rec, &step, &slots[0].request, sizeof slots[0], accepted, SLOTS);
        uint32_t used = 0, blocks = 0;
        for (int i = 0; i < SLOTS; i++) {
            slot *s = &slots[i];
            tokens += accepted[i];
            if (s->used && accepted[i] && --s->answer_left == 0) {
                stepscope_finish(rec, &s->request, stepscope_step_time(&step), STEPSCOPE_LENGTH, 0);
                s->used = false;
                ended++;
            }
            used += s->used ? s->positions : 0;
            blocks += s->used ? (s->positions + BLOCK - 1) / BLOCK : 0;
        }
        stepscope_kv(rec, kv, blocks, 0, BLOCKS, used);
    }
    stepscope_snapshot *end = NULL; // what /metrics says, against what the engine did
    stepscope_snapshot_take(scope, &end);
    bool ok = sum(end, "llm_requests_total") == (double)ended &&
              sum(end, "llm_generated_tokens_total") == (double)tokens && sum(end, "llm_invalid_total") == 0;
    stepscope_snapshot_free(&end);
    stepscope_shutdown(scope, 0);
    stepscope_recorder_free(&rec);
    stepscope_free(&scope);
    printf("{\"ok\": %s, \"requests\": %llu, \"tokens\": %llu}\n", ok ? "true" : "false",
           (unsigned long long)ended, (unsigned long long)tokens);
    return ok ? 0 : 1;
}
