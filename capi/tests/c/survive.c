// Calls every function as it must not be called: NULL, twice, after the end, from a wrong thread, with
// nonsense. Each answer is checked; the sanitizers look for the rest.
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const stepscope_series OTHER = {0};
static const stepscope_priority NO_PRIORITY = {0};
static const stepscope_pool KV = {0};
static const stepscope_shape DECODE = {0, 0, 1};

static void append(void *user, const char *data, size_t length) {
    CHECK(data != NULL);
    *(size_t *)user += length;
}

static int entries(const char *folder) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    int n = 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static stepscope_scope *start(void) {
    stepscope_config config = {.size = sizeof config};
    config.listen = "127.0.0.1:0";
    config.model = "m";
    stepscope_scope *scope = NULL;
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_OK && scope != NULL);
    return scope;
}

static double sum(stepscope_scope *scope, const char *family, const char *name, const char *value) {
    stepscope_snapshot *snapshot = NULL;
    CHECK(stepscope_snapshot_take(scope, &snapshot) == STEPSCOPE_OK);
    stepscope_label label = {name, value};
    double total = -1;
    stepscope_status status = stepscope_snapshot_sum(snapshot, family, &label, name != NULL, &total);
    CHECK(status == STEPSCOPE_OK || status == STEPSCOPE_ABSENT);
    stepscope_snapshot_free(&snapshot);
    CHECK(snapshot == NULL);
    stepscope_snapshot_free(&snapshot);
    return total;
}

static double invalid(stepscope_scope *scope, const char *reason) {
    return sum(scope, "llm_invalid_total", "reason", reason);
}

// All verbs, with whatever recorder, request and step.
static void every_verb(stepscope_recorder *rec, stepscope_request *q, stepscope_step *s, stepscope_stream *t) {
    stepscope_enqueue(rec, q, 1);
    stepscope_schedule(rec, q, 1, 1, 1);
    stepscope_prefill(rec, q, 1);
    stepscope_preempt(rec, q, 1, STEPSCOPE_PREEMPT_SWAP);
    stepscope_first_from(rec, q, q);
    stepscope_join(rec, q, q, 1, STEPSCOPE_DISCARD_NONE);
    stepscope_discard(rec, q, STEPSCOPE_DISCARD_BEAM, 1);
    stepscope_spec(rec, q, 1, 1);
    stepscope_emitted(rec, t, 1);
    stepscope_step_launched(rec, s, STEPSCOPE_LAUNCH_STAMP);
    stepscope_step_abandon(rec, s);
    stepscope_end_step(rec, s, 1);
    stepscope_tokens(rec, s, q, sizeof *q, NULL, 1);
    stepscope_tokens_at(rec, s, &q, NULL, 1);
    stepscope_token(rec, s, q, 1);
    stepscope_finish(rec, q, 1, STEPSCOPE_STOP, 0);
    stepscope_queue(rec, STEPSCOPE_WAIT_CAPACITY, NO_PRIORITY, 1);
    stepscope_kv(rec, KV, 1, 1, 2, 1);
}

static void null_everywhere(void) {
    const stepscope_status null = STEPSCOPE_ERROR_NULL;
    CHECK(stepscope_start(NULL, NULL) == null);
    CHECK(stepscope_shutdown(NULL, 1) == null && stepscope_advance(NULL, 1) == null);
    CHECK(stepscope_intern_series(NULL, NULL, NULL, NULL) == null);
    CHECK(stepscope_intern_priority(NULL, NULL, NULL) == null);
    CHECK(stepscope_intern_pool(NULL, NULL, NULL) == null);
    CHECK(stepscope_mark_ready(NULL) == null && stepscope_mark_draining(NULL) == null);
    CHECK(stepscope_mark_failed(NULL) == null && stepscope_port(NULL, NULL) == null);
    CHECK(stepscope_live(NULL) == null && stepscope_ready(NULL) == null);
    CHECK(stepscope_recorder_new(NULL, NULL, NULL, 0, NULL) == null);
    CHECK(stepscope_recorder_let_go(NULL) == null && stepscope_recorder_set_lane(NULL, NULL) == null);
    CHECK(stepscope_device_new(NULL, NULL, NULL) == null && stepscope_device_set(NULL, 0, 1) == null);
    CHECK(stepscope_device_clear(NULL, 0) == null && stepscope_device_add(NULL, 0, 1) == null);
    CHECK(stepscope_device_xid(NULL, 0, 1) == null && stepscope_watch_device(NULL, NULL, NULL, NULL) == null);
    CHECK(stepscope_metrics_write(NULL, NULL, NULL, NULL, NULL) == null);
    CHECK(stepscope_metrics_text(NULL, NULL, 0, NULL) == null);
    CHECK(stepscope_health_write(NULL, NULL, NULL) == null && stepscope_health_text(NULL, NULL, 0, NULL) == null);
    CHECK(stepscope_snapshot_take(NULL, NULL) == null);
    CHECK(stepscope_snapshot_sum(NULL, NULL, NULL, 1, NULL) == null);
    CHECK(stepscope_snapshot_quantile(NULL, NULL, NULL, 1, 0.5, NULL) == null);
    CHECK(stepscope_gpu_attach(NULL, NULL, NULL, NULL) == null && stepscope_gpu_detach(NULL, 1) == null);
    CHECK(stepscope_gpu_resolve(NULL, NULL, NULL) == null && stepscope_gpu_settle(NULL, NULL, NULL) == null);
    CHECK(stepscope_gpu_clock(NULL, NULL) == null && stepscope_gpu_progress(NULL, 0, NULL) == null);
    CHECK(stepscope_lane_open(NULL, NULL, NULL) == null && stepscope_lane_capture(NULL, NULL, 0) == null);
    CHECK(stepscope_lane_device_handle(NULL, NULL) == null && stepscope_lane_id(NULL, NULL) == null);
    CHECK(stepscope_lane_begin(NULL, DECODE, NULL) == null && stepscope_lane_end(NULL, NULL, 0) == null);
    CHECK(stepscope_lane_abandon(NULL, NULL) == null && stepscope_lane_let_go(NULL) == null);
    CHECK(stepscope_gpu_cupti(NULL) == null);
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_OK);
    CHECK(strlen(stepscope_last_error()) > 0 && strlen(stepscope_version()) > 0 && stepscope_now() > 0);
    stepscope_free(NULL);
    stepscope_recorder_free(NULL);
    stepscope_device_free(NULL);
    stepscope_snapshot_free(NULL);
    stepscope_gpu_free(NULL);
    stepscope_lane_free(NULL);
    stepscope_request_drop(NULL);
    CHECK(stepscope_request_tokens(NULL) == 0 && stepscope_step_time(NULL) == 0);
    CHECK(stepscope_request_stream(NULL).opaque[0] == 0);

    // Without a recorder a verb does nothing and its request is an empty slot.
    stepscope_request q = stepscope_arrive(NULL, OTHER, 1, 1), empty;
    memset(&empty, 0, sizeof empty);
    CHECK(memcmp(&q, &empty, sizeof q) == 0);
    q = stepscope_arrive_from(NULL, OTHER, 1, NULL, 1);
    CHECK(memcmp(&q, &empty, sizeof q) == 0);
    q = stepscope_fork(NULL, NULL);
    CHECK(memcmp(&q, &empty, sizeof q) == 0 && stepscope_request_origin(NULL, NULL, 1).recv_ns == 0);
    stepscope_step s = stepscope_begin_step(NULL, 1, DECODE);
    stepscope_stream t = {{0}};
    every_verb(NULL, &q, &s, &t);
    every_verb(NULL, NULL, NULL, NULL);

    // With one, and nothing else.
    stepscope_scope *scope = start();
    stepscope_recorder *rec = NULL;
    CHECK(stepscope_recorder_new(scope, NULL, NULL, 0, &rec) == STEPSCOPE_OK);
    every_verb(rec, NULL, NULL, NULL);
    q = stepscope_fork(rec, NULL);
    CHECK(memcmp(&q, &empty, sizeof q) == 0);
    CHECK(invalid(scope, "order") >= 15);
    CHECK(stepscope_recorder_set_lane(rec, NULL) == null && stepscope_metrics_write(scope, NULL, NULL, NULL, NULL) == null);
    CHECK(stepscope_snapshot_take(scope, NULL) == null && stepscope_device_new(scope, NULL, NULL) == null);
    stepscope_recorder_free(&rec);
    stepscope_free(&scope);
}

static void nonsense(void) {
    stepscope_scope *scope = start();
    stepscope_recorder *rec = NULL;
    stepscope_series chat = {7};
    CHECK(stepscope_intern_series(scope, "caf\xe9\xff", "\xfe", &chat) == STEPSCOPE_OK && chat.opaque != 0);
    char huge[5000];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = 0;
    stepscope_priority priority;
    stepscope_pool pool;
    CHECK(stepscope_intern_priority(scope, huge, &priority) == STEPSCOPE_OK);
    CHECK(stepscope_intern_pool(scope, huge, &pool) == STEPSCOPE_OK);
    CHECK(stepscope_recorder_new(scope, "\xff", "\xff", UINT32_MAX, &rec) == STEPSCOPE_OK);

    // Counts, times and words that cannot be.
    stepscope_request q = stepscope_arrive(rec, chat, UINT64_MAX, UINT64_MAX);
    stepscope_schedule(rec, &q, 0, UINT32_MAX, UINT32_MAX);
    stepscope_prefill(rec, &q, UINT32_MAX);
    stepscope_preempt(rec, &q, 0, 99);
    stepscope_discard(rec, &q, 99, UINT32_MAX);
    stepscope_spec(rec, &q, UINT32_MAX, UINT32_MAX);
    stepscope_queue(rec, 99, (stepscope_priority){UINT32_MAX}, UINT32_MAX);
    stepscope_queue(rec, STEPSCOPE_WAIT_LORA, (stepscope_priority){UINT32_MAX}, UINT32_MAX);
    stepscope_kv(rec, (stepscope_pool){UINT32_MAX}, UINT32_MAX, UINT32_MAX, 0, UINT32_MAX);
    stepscope_step step = stepscope_begin_step(rec, UINT64_MAX, (stepscope_shape){UINT32_MAX, UINT32_MAX, UINT32_MAX});
    double before = invalid(scope, "order");
    stepscope_tokens(rec, &step, &q, sizeof q, NULL, 1); // not ended yet
    stepscope_end_step(rec, &step, 0);
    stepscope_end_step(rec, &step, 0);                          // twice
    stepscope_step_abandon(rec, &step);                         // after its end
    stepscope_step_launched(rec, &step, STEPSCOPE_LAUNCH_STAMP); // after its end
    stepscope_tokens(rec, &step, &q, sizeof q, NULL, SIZE_MAX);
    stepscope_tokens(rec, &step, &q, 0, NULL, 2);
    stepscope_tokens(rec, &step, &q, SIZE_MAX - 7, NULL, 2);
    stepscope_tokens(rec, &step, NULL, sizeof q, NULL, 2);
    stepscope_tokens_at(rec, &step, NULL, NULL, 1);
    CHECK(invalid(scope, "order") == before + 9);
    stepscope_tokens(rec, &step, NULL, 0, NULL, 0); // an empty batch is one
    stepscope_request *twice[3] = {&q, NULL, &q};
    const uint32_t accepted[3] = {UINT32_MAX, 1, 1};
    stepscope_tokens_at(rec, &step, twice, accepted, 3);
    CHECK(stepscope_request_tokens(&q) == 256);
    stepscope_finish(rec, &q, 0, 99, 99);
    CHECK(sum(scope, "llm_requests_total", "status", "failed") == 1);
    stepscope_finish(rec, &q, 0, STEPSCOPE_STOP, 0);
    stepscope_join(rec, &q, &q, 0, 0);
    CHECK(invalid(scope, "already_ended") == 1 && sum(scope, "llm_requests_total", NULL, NULL) == 1);

    // Memory that was never a request, a step, a stream.
    unsigned char dirt[sizeof(stepscope_request)];
    for (int byte = 0; byte < 256; byte++) {
        memset(dirt, byte, sizeof dirt);
        stepscope_request any;
        stepscope_step any_step;
        stepscope_stream any_stream;
        memset(&any_step, byte, sizeof any_step);
        memset(&any_stream, byte, sizeof any_stream);
        memcpy(&any, dirt, sizeof any);
        every_verb(rec, &any, &any_step, &any_stream);
        stepscope_request_drop(&any);
        memcpy(&any, dirt, sizeof any);
        stepscope_token(rec, &step, &any, 1);
        stepscope_request child = stepscope_fork(rec, &any);
        stepscope_join(rec, &any, &child, 1, STEPSCOPE_DISCARD_BEAM);
        stepscope_request_drop(&any);
    }
    stepscope_origin origin = {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX};
    q = stepscope_arrive_from(rec, (stepscope_series){UINT32_MAX}, 1, &origin, 5);
    stepscope_request_drop(&q);
    CHECK(invalid(scope, "dropped") >= 1);

    // Readers.
    double value = 1;
    size_t needed = 0, length = 0;
    char small[8];
    stepscope_snapshot *snapshot = NULL;
    CHECK(stepscope_snapshot_take(scope, &snapshot) == STEPSCOPE_OK);
    CHECK(stepscope_snapshot_sum(snapshot, "\xff", NULL, 0, &value) == STEPSCOPE_ERROR_INVALID && value == 0);
    CHECK(stepscope_snapshot_sum(snapshot, "llm_requests_total", NULL, SIZE_MAX, &value) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_snapshot_quantile(snapshot, "llm_requests_total", NULL, 0, 2, &value) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_snapshot_quantile(snapshot, "llm_requests_total", NULL, 0, 0.5, &value) == STEPSCOPE_ABSENT);
    stepscope_snapshot_free(&snapshot);
    CHECK(stepscope_metrics_text(scope, small, sizeof small, &needed) == STEPSCOPE_ERROR_TOO_SMALL && needed > 1000);
    CHECK(stepscope_metrics_text(scope, NULL, SIZE_MAX, NULL) == STEPSCOPE_ERROR_TOO_SMALL);
    char *buffer = malloc(needed * 2);
    CHECK(buffer != NULL && stepscope_metrics_text(scope, buffer, needed * 2, &needed) == STEPSCOPE_OK);
    CHECK(strlen(buffer) + 1 == needed);
    CHECK(stepscope_health_text(scope, buffer, needed, &needed) == STEPSCOPE_OK && buffer[0] == '{');
    free(buffer);
    const char *type = NULL;
    CHECK(stepscope_metrics_write(scope, "\xff", &type, append, &length) == STEPSCOPE_OK && length > 1000);
    CHECK(strncmp(type, "text/plain", 10) == 0);
    CHECK(stepscope_health_write(scope, append, &length) == STEPSCOPE_OK);

    // Devices and GPUs.
    stepscope_device *device = NULL;
    CHECK(stepscope_device_new(scope, "\xff", &device) == STEPSCOPE_OK);
    CHECK(stepscope_device_set(device, 99, 1) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_device_set(device, STEPSCOPE_POWER, 0.0 / 1e-300) == STEPSCOPE_OK);
    CHECK(stepscope_device_clear(device, STEPSCOPE_POWER) == STEPSCOPE_OK);
    CHECK(stepscope_device_add(device, STEPSCOPE_ENERGY, UINT64_MAX) == STEPSCOPE_OK);
    CHECK(stepscope_device_xid(device, STEPSCOPE_XID_APP, UINT64_MAX) == STEPSCOPE_OK);
    stepscope_device_free(&device);
    stepscope_device_free(&device);
    stepscope_gpu *gpu = (stepscope_gpu *)&needed;
    stepscope_gpu_options options = {.size = sizeof options};
    options.library = "/nowhere/\xff/libcuda.so";
    CHECK(stepscope_gpu_attach(scope, NULL, &options, &gpu) == STEPSCOPE_ERROR_UNAVAILABLE && gpu == NULL);
    options.lanes = 65;
    CHECK(stepscope_gpu_attach(scope, NULL, &options, &gpu) == STEPSCOPE_ERROR_INVALID);
    CHECK(stepscope_watch_device(scope, "0", "GPU-none", "/nowhere/libnvml.so") == STEPSCOPE_ERROR_UNAVAILABLE);
    stepscope_recorder_free(&rec);
    stepscope_free(&scope);
}

static void bad_settings(void) {
    stepscope_scope *scope = (stepscope_scope *)&scope;
    struct {
        stepscope_config config;
        uint64_t later;
    } newer;
    memset(&newer, 0, sizeof newer);
    CHECK(stepscope_start(&newer.config, &scope) == STEPSCOPE_ERROR_INVALID && scope == NULL); // size 0
    newer.config.size = sizeof newer;
    newer.config.listen = "off";
    CHECK(stepscope_start(&newer.config, &scope) == STEPSCOPE_OK); // nothing said in what we do not know
    uint16_t port = 0;
    CHECK(stepscope_port(scope, &port) == STEPSCOPE_ABSENT);
    CHECK(stepscope_ready(scope) == STEPSCOPE_NO && stepscope_live(scope) == STEPSCOPE_OK);
    stepscope_free(&scope);
    newer.later = 1;
    CHECK(stepscope_start(&newer.config, &scope) == STEPSCOPE_ERROR_INVALID);
    newer.config.size = sizeof(size_t) + 7 * sizeof(char *); // an older header ended here
    CHECK(stepscope_start(&newer.config, &scope) == STEPSCOPE_OK);
    stepscope_free(&scope);
    stepscope_config config = {.size = sizeof config};
    config.listen = "nowhere";
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_ERROR_INVALID && strstr(stepscope_last_error(), "ADDRESS:PORT"));
    config.listen = "192.0.2.1:1";
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_ERROR_LISTEN);
    config.listen = "off";
    config.role = 9;
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_ERROR_INVALID);
    config.role = STEPSCOPE_ROLE_DECODE;
    config.series_max = UINT32_MAX;
    CHECK(stepscope_start(&config, &scope) == STEPSCOPE_ERROR_INVALID);
}

static void after_the_end(void) {
    stepscope_scope *scope = start();
    stepscope_recorder *rec = NULL;
    stepscope_device *device = NULL;
    CHECK(stepscope_recorder_new(scope, "r", NULL, 16, &rec) == STEPSCOPE_OK);
    CHECK(stepscope_device_new(scope, "0", &device) == STEPSCOPE_OK);
    stepscope_request q = stepscope_arrive(rec, OTHER, 1, stepscope_now());
    CHECK(stepscope_shutdown(scope, 0) == STEPSCOPE_OK);
    CHECK(stepscope_shutdown(scope, 0) == STEPSCOPE_ERROR_ENDED);
    const stepscope_status ended = STEPSCOPE_ERROR_ENDED;
    stepscope_recorder *late = NULL;
    stepscope_snapshot *snapshot = NULL;
    stepscope_series series = {1};
    size_t length = 0;
    uint16_t port;
    CHECK(stepscope_recorder_new(scope, "r", NULL, 0, &late) == ended && late == NULL);
    CHECK(stepscope_intern_series(scope, "chat", NULL, &series) == ended && series.opaque == 0);
    CHECK(stepscope_mark_ready(scope) == ended && stepscope_ready(scope) == ended && stepscope_live(scope) == ended);
    CHECK(stepscope_advance(scope, 1) == ended && stepscope_port(scope, &port) == ended);
    CHECK(stepscope_snapshot_take(scope, &snapshot) == ended && snapshot == NULL);
    CHECK(stepscope_metrics_write(scope, NULL, NULL, append, &length) == ended && length == 0);
    CHECK(stepscope_device_set(device, STEPSCOPE_POWER, 1) == STEPSCOPE_OK);
    for (int i = 0; i < 1000; i++) { // more than the ring holds, and nobody drains it
        stepscope_step step = stepscope_begin_step(rec, stepscope_now(), DECODE);
        stepscope_end_step(rec, &step, stepscope_now());
        stepscope_token(rec, &step, &q, 1);
    }
    stepscope_free(&scope);
    CHECK(scope == NULL);
    stepscope_free(&scope);
    stepscope_finish(rec, &q, stepscope_now(), STEPSCOPE_ABORTED, 0);
    stepscope_recorder_free(&rec);
    stepscope_recorder_free(&rec);
    stepscope_device_free(&device);
}

typedef struct shared {
    stepscope_recorder *rec;
    stepscope_request request;
    int let_go;
} shared;

static void *on_another_thread(void *arg) {
    shared *with = arg;
    stepscope_enqueue(with->rec, &with->request, stepscope_now());
    if (with->let_go)
        CHECK(stepscope_recorder_let_go(with->rec) == STEPSCOPE_OK);
    else
        CHECK(stepscope_recorder_let_go(with->rec) == STEPSCOPE_ERROR_THREAD);
    return NULL;
}

static void *many_calls(void *arg) {
    shared *with = arg;
    for (int i = 0; i < 10000; i++)
        stepscope_kv(with->rec, KV, 1, 0, 2, 1);
    return NULL;
}

static void two_threads(void) {
    stepscope_scope *scope = start();
    shared with = {NULL, {{0}}, 0};
    pthread_t other, more[4];
    CHECK(stepscope_recorder_new(scope, "r", NULL, 0, &with.rec) == STEPSCOPE_OK);
    with.request = stepscope_arrive(with.rec, OTHER, 1, stepscope_now());
    pthread_create(&other, NULL, on_another_thread, &with);
    pthread_join(other, NULL);
    CHECK(invalid(scope, "thread") == 1 && sum(scope, "llm_invalid_total", NULL, NULL) == 1);
    CHECK(stepscope_recorder_let_go(with.rec) == STEPSCOPE_OK);
    with.let_go = 1;
    pthread_create(&other, NULL, on_another_thread, &with);
    pthread_join(other, NULL);
    stepscope_schedule(with.rec, &with.request, stepscope_now(), 0, 0); // enqueued over there
    CHECK(sum(scope, "llm_invalid_total", NULL, NULL) == 1);
    stepscope_finish(with.rec, &with.request, stepscope_now(), STEPSCOPE_STOP, 0);

    // All at once: one owns it, the others are refused and counted.
    CHECK(stepscope_recorder_let_go(with.rec) == STEPSCOPE_OK);
    stepscope_kv(with.rec, KV, 1, 0, 2, 1);
    for (int i = 0; i < 4; i++)
        pthread_create(&more[i], NULL, many_calls, &with);
    for (int i = 0; i < 4; i++)
        pthread_join(more[i], NULL);
    CHECK(invalid(scope, "thread") == 1 + 4 * 10000);
    stepscope_recorder_free(&with.rec);
    stepscope_free(&scope);
}

static void take_line(void *user, stepscope_log_level level, const char *line) {
    CHECK(level <= STEPSCOPE_LOG_INFO && strlen(line) > 0);
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_ERROR_BUSY);
    ++*(int *)user;
}

static void nothing_left_behind(void) {
    int lines = 0;
    CHECK(stepscope_set_log(take_line, &lines, STEPSCOPE_LOG_INFO) == STEPSCOPE_OK);
    int threads = entries("/proc/self/task"), files = entries("/proc/self/fd");
    for (int i = 0; i < 3; i++) {
        stepscope_scope *scope = start();
        CHECK(entries("/proc/self/task") > threads && entries("/proc/self/fd") > files);
        stepscope_shutdown(scope, 0);
        stepscope_free(&scope);
        CHECK(entries("/proc/self/task") == threads && entries("/proc/self/fd") == files);
    }
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_OK);
}

int main(void) {
    null_everywhere();
    nonsense();
    bad_settings();
    after_the_end();
    two_threads();
    nothing_left_behind();
    puts("survived");
    return 0;
}
