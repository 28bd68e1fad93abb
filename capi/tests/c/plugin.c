// An engine that is a plugin, with the library's archive inside; see plugins.c.
#include "stepscope.h"

static stepscope_scope *scope;
static stepscope_recorder *rec;

// Ends as many requests as it is told; 0 = exactly those are counted.
int plugin_run(unsigned requests);
int plugin_stop(unsigned nothing);
// A constant of the copy of the library that this plugin calls.
const char *plugin_copy(void);

const char *plugin_copy(void) { return stepscope_version(); }

int plugin_run(unsigned requests) {
    stepscope_config config = {.size = sizeof config};
    config.listen = "127.0.0.1:0";
    if (stepscope_start(&config, &scope) != STEPSCOPE_OK)
        return 1;
    if (stepscope_recorder_new(scope, "engine", NULL, 0, &rec) != STEPSCOPE_OK)
        return 2;
    for (unsigned i = 0; i < requests; i++) {
        stepscope_request request = stepscope_arrive(rec, (stepscope_series){0}, i, stepscope_now());
        stepscope_finish(rec, &request, stepscope_now(), STEPSCOPE_ABORTED, 0);
    }
    stepscope_snapshot *snapshot = NULL;
    double counted = 0;
    stepscope_snapshot_take(scope, &snapshot);
    stepscope_snapshot_sum(snapshot, "llm_requests_total", NULL, 0, &counted);
    stepscope_snapshot_free(&snapshot);
    return counted == (double)requests ? 0 : 3;
}

int plugin_stop(unsigned nothing) {
    (void)nothing;
    stepscope_recorder_free(&rec);
    stepscope_free(&scope);
    return stepscope_shutdown(scope, 0) == STEPSCOPE_ERROR_NULL ? 0 : 4;
}
