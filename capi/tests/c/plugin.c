// An engine as a plugin that brings its own copy of the library.
#include "stepscope.h"

double serve(uint64_t requests);

// Serves so many requests in a scope of its own; what the scope counted, or -1.
double serve(uint64_t requests) {
    stepscope_config config = {.size = sizeof config};
    config.listen = "127.0.0.1:0";
    stepscope_scope *scope = NULL;
    stepscope_recorder *rec = NULL;
    stepscope_snapshot *snapshot = NULL;
    double counted = -1;
    if (stepscope_start(&config, &scope) != STEPSCOPE_OK)
        return -1;
    stepscope_recorder_new(scope, "engine", NULL, 0, &rec);
    for (uint64_t id = 0; id < requests; id++) {
        stepscope_request request = stepscope_arrive(rec, (stepscope_series){0}, id, stepscope_now());
        stepscope_finish(rec, &request, stepscope_now(), STEPSCOPE_ABORTED, 0);
    }
    stepscope_snapshot_take(scope, &snapshot);
    stepscope_snapshot_sum(snapshot, "llm_requests_total", NULL, 0, &counted);
    stepscope_snapshot_free(&snapshot);
    stepscope_recorder_free(&rec);
    stepscope_shutdown(scope, 0);
    stepscope_free(&scope);
    return counted;
}
