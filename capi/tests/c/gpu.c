// An engine on a GPU, in C: steps by launches and by a replayed graph, stamped for a recorder and by
// hand; then a detach under its feet. The driver is the library that the first argument names.
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What this engine calls of the driver.
static struct {
    int (*init)(unsigned);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*stream)(void **, unsigned);
    int (*begin_capture)(void *, int);
    int (*end_capture)(void *, void **);
    int (*instantiate)(void **, void *, unsigned long long);
    int (*replay)(void *, void *);
    int (*synchronize)(void *);
} cu;

static void find(void *library, const char *name, void *place) {
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    memcpy(place, &found, sizeof found);
}

static void load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    find(library, "cuInit", &cu.init);
    find(library, "cuDevicePrimaryCtxRetain", &cu.retain);
    find(library, "cuCtxSetCurrent", &cu.set_current);
    find(library, "cuStreamCreate", &cu.stream);
    find(library, "cuStreamBeginCapture_v2", &cu.begin_capture);
    find(library, "cuStreamEndCapture", &cu.end_capture);
    find(library, "cuGraphInstantiateWithFlags", &cu.instantiate);
    find(library, "cuGraphLaunch", &cu.replay);
    find(library, "cuStreamSynchronize", &cu.synchronize);
}

static double sum(stepscope_scope *scope, const char *family, const char *name, const char *value) {
    stepscope_snapshot *snapshot = NULL;
    CHECK(stepscope_snapshot_take(scope, &snapshot) == STEPSCOPE_OK);
    stepscope_label label = {name, value};
    double total = 0;
    stepscope_status status = stepscope_snapshot_sum(snapshot, family, &label, 1, &total);
    CHECK(status == STEPSCOPE_OK || status == STEPSCOPE_ABSENT);
    stepscope_snapshot_free(&snapshot);
    return total;
}

// A graph whose last node is the end of a step.
static void *capture(stepscope_lane *lane, void *stream) {
    void *graph = NULL, *exec = NULL;
    CHECK(stepscope_lane_capture(lane, stream, 3) == STEPSCOPE_ERROR_INVALID); // nothing is captured yet
    CHECK(cu.begin_capture(stream, 0) == 0);
    CHECK(stepscope_lane_capture(lane, stream, 4) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_lane_capture(lane, stream, 1) == STEPSCOPE_OK);
    CHECK(stepscope_lane_capture(lane, stream, 3) == STEPSCOPE_OK);
    CHECK(cu.end_capture(stream, &graph) == 0 && cu.instantiate(&exec, graph, 0) == 0);
    return exec;
}

static void *refused(void *lane) {
    uint16_t number = 0;
    stepscope_ticket ticket, empty = {{0}};
    memset(&ticket, 1, sizeof ticket);
    CHECK(stepscope_lane_id(lane, &number) == STEPSCOPE_ERROR_THREAD);
    CHECK(stepscope_lane_let_go(lane) == STEPSCOPE_ERROR_THREAD);
    CHECK(stepscope_lane_begin(lane, (stepscope_shape){0, 0, 1}, &ticket) == STEPSCOPE_ERROR_THREAD);
    CHECK(memcmp(&ticket, &empty, sizeof ticket) == 0);
    return NULL;
}

static void *taken_over(void *lane) {
    uint16_t number = 0;
    CHECK(stepscope_lane_id(lane, &number) == STEPSCOPE_OK && stepscope_lane_let_go(lane) == STEPSCOPE_OK);
    return NULL;
}

static int lines;

static void take_line(void *user, stepscope_log_level level, const char *line) {
    CHECK(user == &lines && level <= STEPSCOPE_LOG_INFO && strlen(line) > 0);
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_ERROR_BUSY);
    lines++;
}

// Steps for a recorder: every second one ends inside of a graph.
static void recorded(stepscope_scope *scope, stepscope_gpu *gpu, void *stream) {
    stepscope_recorder *rec = NULL;
    stepscope_lane *lane = NULL;
    CHECK(stepscope_recorder_new(scope, "engine", NULL, 0, &rec) == STEPSCOPE_OK);
    CHECK(stepscope_lane_open(gpu, stream, &lane) == STEPSCOPE_OK);
    void *graph = capture(lane, stream);
    CHECK(stepscope_recorder_set_lane(rec, &lane) == STEPSCOPE_OK && lane == NULL);
    stepscope_request request = stepscope_arrive(rec, (stepscope_series){0}, 1, stepscope_now());
    stepscope_schedule(rec, &request, stepscope_now(), 0, 0);
    for (int i = 0; i < 200; i++) {
        int in_graph = i % 2;
        stepscope_step step = stepscope_begin_step(rec, stepscope_now(), (stepscope_shape){0, 0, 1});
        if (in_graph)
            CHECK(cu.replay(graph, stream) == 0);
        stepscope_step_launched(rec, &step, in_graph ? STEPSCOPE_LAUNCH_IN_GRAPH : STEPSCOPE_LAUNCH_STAMP);
        CHECK(cu.synchronize(stream) == 0);
        stepscope_end_step(rec, &step, stepscope_now());
        stepscope_token(rec, &step, &request, 1);
    }
    stepscope_finish(rec, &request, stepscope_now(), STEPSCOPE_STOP, 0);
    CHECK(sum(scope, "llm_step_source_total", "source", "gpu") == 200);
    CHECK(sum(scope, "llm_step_source_total", "source", "host") == 0);
    stepscope_gpu_lane_progress progress;
    CHECK(stepscope_gpu_progress(gpu, 0, &progress) == STEPSCOPE_OK);
    CHECK(progress.issued == 200 && progress.ended == 200 && progress.completed == 200);
    CHECK(stepscope_gpu_progress(gpu, 60, &progress) == STEPSCOPE_OK && progress.issued == 0);
    stepscope_recorder_free(&rec);
}

// Steps by hand.
static void by_hand(stepscope_gpu *gpu, void *stream) {
    stepscope_lane *lane = NULL;
    CHECK(stepscope_lane_open(gpu, stream, &lane) == STEPSCOPE_OK);
    uint16_t number = 0;
    uint64_t handle[2] = {0, 0};
    pthread_t other;
    CHECK(stepscope_lane_id(lane, &number) == STEPSCOPE_OK && number == 1);
    CHECK(stepscope_lane_device_handle(lane, (stepscope_handle *)handle) == STEPSCOPE_OK && handle[0] != 0);
    pthread_create(&other, NULL, refused, lane);
    pthread_join(other, NULL);
    CHECK(stepscope_lane_let_go(lane) == STEPSCOPE_OK);
    pthread_create(&other, NULL, taken_over, lane);
    pthread_join(other, NULL);

    stepscope_ticket ticket, open, empty = {{0}};
    stepscope_step_times times, again;
    uint64_t before = stepscope_now();
    CHECK(stepscope_lane_begin(lane, (stepscope_shape){1, 64, 7}, &ticket) == STEPSCOPE_OK);
    CHECK(stepscope_lane_end(lane, &ticket, 9) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_lane_end(lane, &ticket, STEPSCOPE_LAUNCH_STAMP) == STEPSCOPE_OK);
    CHECK(cu.synchronize(stream) == 0);
    CHECK(stepscope_gpu_settle(gpu, &ticket, NULL) == STEPSCOPE_ERROR_NULL); // and is not settled by that
    CHECK(stepscope_gpu_resolve(gpu, &ticket, &times) == STEPSCOPE_OK);
    CHECK(stepscope_gpu_settle(gpu, &ticket, &again) == STEPSCOPE_OK);
    CHECK(memcmp(&times, &again, sizeof times) == 0 && memcmp(&ticket, &empty, sizeof ticket) == 0);
    CHECK(times.begin_ns + times.error_ns >= before && times.end_ns >= times.begin_ns);
    CHECK(times.end_ns <= stepscope_now() + times.error_ns && times.idle_before_ns == UINT64_MAX);
    CHECK(stepscope_gpu_settle(gpu, &ticket, &again) != STEPSCOPE_OK); // twice

    CHECK(stepscope_lane_begin(lane, (stepscope_shape){0, 0, 7}, &open) == STEPSCOPE_OK);
    CHECK(stepscope_gpu_settle(gpu, &open, &times) == STEPSCOPE_LOST_NOT_ENDED);
    CHECK(stepscope_lane_begin(lane, (stepscope_shape){0, 0, 7}, &open) == STEPSCOPE_OK);
    CHECK(stepscope_lane_abandon(lane, &open) == STEPSCOPE_OK && memcmp(&open, &empty, sizeof open) == 0);
    stepscope_lane_free(&lane);
    CHECK(lane == NULL);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    load(argv[1]);
    void *context = NULL, *stream = NULL;
    CHECK(cu.init(0) == 0 && cu.retain(&context, 0) == 0 && cu.set_current(context) == 0);
    CHECK(cu.stream(&stream, 1) == 0);

    stepscope_config config = {.size = sizeof config};
    config.listen = "off";
    stepscope_scope *scope = NULL;
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_OK);
    stepscope_gpu_options options = {.size = sizeof options};
    options.library = argv[1];
    options.without_nvml = 1;
    options.slots = 100; // no power of two
    stepscope_gpu *gpu = NULL;
    CHECK(stepscope_gpu_attach(scope, stream, &options, &gpu) == STEPSCOPE_ERROR_INVALID && gpu == NULL);
    options.slots = 0;
    options.lanes = 2;
    options.cupti_graphs = 1; // which this driver has no door for: that is logged and told
    CHECK(stepscope_set_log(take_line, &lines, STEPSCOPE_LOG_WARN) == STEPSCOPE_OK);
    CHECK(stepscope_gpu_attach(scope, stream, &options, &gpu) == STEPSCOPE_OK);
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_OK && lines == 1);
    CHECK(stepscope_gpu_cupti(gpu) == STEPSCOPE_NO && strstr(stepscope_last_error(), "CUPTI") != NULL);
    stepscope_gpu_clock_state clock;
    CHECK(stepscope_gpu_clock(gpu, &clock) == STEPSCOPE_OK && clock.rounds > 0 && clock.error_ns > 0);

    recorded(scope, gpu, stream);
    by_hand(gpu, stream);
    stepscope_lane *third = NULL;
    CHECK(stepscope_lane_open(gpu, stream, &third) == STEPSCOPE_ERROR_RESOURCES && third == NULL);

    // The graph that was captured above may still be replayed: its memory stays.
    CHECK(stepscope_gpu_detach(gpu, 1000) == STEPSCOPE_ERROR_BUSY);
    CHECK(stepscope_gpu_detach(gpu, 0) == STEPSCOPE_ERROR_BUSY); // and it stays so
    CHECK(stepscope_lane_open(gpu, stream, &third) == STEPSCOPE_LOST_DETACHED);
    stepscope_gpu_free(&gpu);
    CHECK(gpu == NULL && stepscope_shutdown(scope, 0) == STEPSCOPE_OK);
    stepscope_free(&scope);
    puts("survived");
    return 0;
}
