/* A driver with CUPTI and a runtime, for the rows that the fake driver alone does not reach.
 *
 * Linked to a copy of the fake driver, whose functions are found through this library. Graph launches are its own:
 * they go on to the fake driver and leave the records that CUPTI writes of them. Built by the test with
 * -DFAKE="path of the copy". Written from the names and types that the documentation states.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t result;
typedef int (*launch_fn)(uintptr_t, uintptr_t);
typedef void (*request_fn)(uint8_t **, size_t *, size_t *);
typedef void (*complete_fn)(void *, uint32_t, uint8_t *, size_t, size_t);

enum { OK = 0, MAX_LIMIT = 12, QUEUE_EMPTY = 18, INVALID_KIND = 21, MULTIPLE_SUBSCRIBERS = 39 };
enum { EXTERNAL = 39, DRIVER = 4, GRAPH_TRACE = 51, CUSTOM0 = 3, GRAPH_LAUNCH = 514 };
enum { PENDING_MAX = 1 << 20 };

struct launch { uint64_t id, start, end; int has_id; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct launch pending[PENDING_MAX];
static size_t pending_first, pending_used;
static uint32_t correlation;
static __thread uint64_t pushed[16];
static __thread int depth;
static int subscribed, tracing;
static request_fn request;
static complete_fn complete;
static uint64_t (*now)(void);
static uint8_t token[8];

static launch_fn fake_launch(void) {
    static launch_fn found;
    if (!found) found = (launch_fn)dlsym(dlopen(FAKE, RTLD_NOW), "cuGraphLaunch");
    return found;
}

int cuGetExportTable(const void **table, const void *id) {
    (void)id;
    *table = NULL;
    return 1;
}

int cuDeviceGetUuid_v2(uint8_t *uuid, int device) {
    (void)device;
    for (int i = 0; i < 16; i++) uuid[i] = (uint8_t)i;
    return 0;
}

int cuGraphLaunch(uintptr_t exec, uintptr_t stream) {
    pthread_mutex_lock(&lock);
    if (tracing && pending_used < PENDING_MAX) {
        struct launch *launch = &pending[(pending_first + pending_used++) % PENDING_MAX];
        launch->has_id = depth > 0;
        launch->id = depth > 0 ? pushed[depth - 1] : 0;
        launch->start = now();
        launch->end = launch->start + 1000;
    }
    pthread_mutex_unlock(&lock);
    return fake_launch()(exec, stream);
}

int cudaGraphLaunch(uintptr_t exec, uintptr_t stream) { return cuGraphLaunch(exec, stream); }

result cuptiGetVersion(uint32_t *version) {
    *version = 130001;
    return OK;
}

result cuptiSubscribe(void **subscriber, void (*callback)(void), void *userdata) {
    (void)callback, (void)userdata;
    if (subscribed) return MULTIPLE_SUBSCRIBERS;
    subscribed = 1;
    *subscriber = token;
    return OK;
}

result cuptiUnsubscribe(void *subscriber) {
    (void)subscriber;
    subscribed = 0;
    return OK;
}

result cuptiActivityRegisterTimestampCallback(uint64_t (*callback)(void)) {
    now = callback;
    return OK;
}

result cuptiActivityRegisterCallbacks(request_fn requested, complete_fn completed) {
    request = requested;
    complete = completed;
    return OK;
}

result cuptiActivityEnable(uint32_t kind) {
    if (kind == GRAPH_TRACE) tracing = 1;
    return OK;
}

result cuptiActivityDisable(uint32_t kind) {
    if (kind == GRAPH_TRACE) tracing = 0;
    return OK;
}

result cuptiActivityEnableDriverApi(uint32_t cbid, uint8_t enable) {
    (void)cbid, (void)enable;
    return OK;
}

static size_t put(uint8_t *at, const uint32_t *words, size_t bytes) {
    memcpy(at, words, bytes);
    return bytes;
}

/* The id, the call, and the graph's time, as CUPTI orders them. */
static size_t write_launch(uint8_t *at, const struct launch *launch) {
    size_t used = 0;
    correlation++;
    if (launch->has_id) {
        uint32_t id[6] = {EXTERNAL, CUSTOM0, (uint32_t)launch->id, (uint32_t)(launch->id >> 32), correlation};
        used += put(at, id, sizeof id);
        uint32_t call[10] = {DRIVER, GRAPH_LAUNCH, 1, 0, 2, 0, 0, 0, correlation};
        used += put(at + used, call, sizeof call);
    }
    uint32_t time[14] = {GRAPH_TRACE, correlation};
    memcpy(&time[2], &launch->start, 8);
    memcpy(&time[4], &launch->end, 8);
    return used + put(at + used, time, sizeof time);
}

result cuptiActivityFlushAll(uint32_t flag) {
    (void)flag;
    uint8_t *buffer = NULL;
    size_t size = 0, records = 0, used = 0;
    request(&buffer, &size, &records);
    if (!buffer) return OK;
    pthread_mutex_lock(&lock);
    while (pending_used && used + 120 <= size) {
        used += write_launch(buffer + used, &pending[pending_first]);
        pending_first = (pending_first + 1) % PENDING_MAX;
        pending_used--;
    }
    pthread_mutex_unlock(&lock);
    complete(NULL, 0, buffer, size, used);
    return OK;
}

result cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *dropped) {
    (void)context, (void)stream;
    *dropped = 0;
    return OK;
}

static size_t size_of(const uint8_t *record) {
    uint32_t kind;
    memcpy(&kind, record, sizeof kind);
    return kind == EXTERNAL ? 24 : kind == DRIVER ? 40 : kind == GRAPH_TRACE ? 56 : 0;
}

result cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, uint8_t **record) {
    uint8_t *next = *record ? *record + size_of(*record) : buffer;
    size_t at = (size_t)(next - buffer);
    if (at >= valid) return MAX_LIMIT;
    if (!size_of(next)) return INVALID_KIND;
    *record = next;
    return OK;
}

result cuptiActivityPushExternalCorrelationId(uint32_t kind, uint64_t id) {
    (void)kind;
    if (depth == 16) return QUEUE_EMPTY;
    pushed[depth++] = id;
    return OK;
}

result cuptiActivityPopExternalCorrelationId(uint32_t kind, uint64_t *last) {
    (void)kind;
    if (!depth) return QUEUE_EMPTY;
    *last = pushed[--depth];
    return OK;
}
