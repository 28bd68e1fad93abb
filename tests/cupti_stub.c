/* A libcupti that does what a test says: answers, counts its calls, delivers canned buffers.
 *
 * Built by the test with `cc -shared`; each copy of the file has its own state. Leave functions out
 * with -DNO_ENABLE_DRIVER_API, -DNO_FLUSH_ALL, -DNO_SUBSCRIBE, -DNO_GET_VERSION. Written from the names and types that
 * CUPTI's documentation states; it holds no text of NVIDIA's headers.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t result;
typedef void (*request_fn)(uint8_t **, size_t *, size_t *);
typedef void (*complete_fn)(void *, uint32_t, uint8_t *, size_t, size_t);

enum {
    OK = 0,
    INVALID_PARAMETER = 1,
    INVALID_OPERATION = 7,
    MAX_LIMIT = 12,
    QUEUE_EMPTY = 18,
    INVALID_KIND = 21,
    HELD_MAX = 16,
};

/* What the test sets and reads, in this order. */
struct knobs {
    uint32_t version;         /* what cuptiGetVersion says */
    uint32_t subscribe_code;  /* what cuptiSubscribe answers */
    uint32_t enable_code;     /* what cuptiActivityEnable answers for graph traces */
    uint32_t flush_code;      /* what cuptiActivityFlushAll answers */
    uint32_t requests;        /* buffers to take at each flush, at most 16 */
    uint32_t strange;         /* buffers to return at each flush that were never asked for */
    uint64_t dropped;         /* what the next question for dropped records says */
    size_t canned_size;       /* bytes of `canned` to deliver at the next flush, once */
    /* What happened. */
    uint32_t calls;           /* of any function */
    uint32_t subscribed;      /* subscribers now */
    uint32_t kinds;           /* activity kinds enabled now */
    uint32_t driver_calls;    /* driver functions enabled now */
    uint32_t depth;           /* external ids pushed now */
    uint32_t refused;         /* requests answered with NULL */
    uint32_t misplaced;       /* calls in an order that CUPTI forbids */
    uint32_t last_kind;       /* of the last push */
    uint64_t last_id;         /* of the last push */
    uint64_t clock;           /* what the clock said at the last flush */
    uint8_t canned[4096];
};

static struct knobs knobs = {.version = 130001, .requests = 1};
static request_fn request;
static complete_fn complete;
static uint64_t (*timestamp)(void);
static uint8_t token[8];
static uint8_t *held[HELD_MAX];
static uint8_t kind_enabled[64];
static uint8_t api_enabled[1024];

struct knobs *stub_knobs(void) { return &knobs; }

/* The library's thread flushes while the test looks: both hold this, the test also across its calls. */
static pthread_mutex_t mutex;
__attribute__((constructor)) static void make_mutex(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &kind);
}
void stub_lock(void) { pthread_mutex_lock(&mutex); }
void stub_unlock(void) { pthread_mutex_unlock(&mutex); }
static void leave(const char *unused) { (void)unused; stub_unlock(); }
#define LOCKED __attribute__((cleanup(leave))) const char locked = (stub_lock(), 0); (void)locked;

#ifndef NO_GET_VERSION
result cuptiGetVersion(uint32_t *version) {
    LOCKED
    knobs.calls++;
    *version = knobs.version;
    return OK;
}
#endif

#ifndef NO_SUBSCRIBE
result cuptiSubscribe(void **subscriber, void (*callback)(void), void *userdata) {
    LOCKED
    (void)userdata;
    knobs.calls++;
    if (!callback) return INVALID_PARAMETER;
    if (knobs.subscribe_code) return knobs.subscribe_code;
    if (knobs.subscribed) return 39;
    knobs.subscribed++;
    *subscriber = token;
    return OK;
}
#endif

result cuptiUnsubscribe(void *subscriber) {
    LOCKED
    knobs.calls++;
    if (subscriber != (void *)token || !knobs.subscribed) return INVALID_PARAMETER;
    knobs.subscribed--;
    return OK;
}

result cuptiActivityRegisterTimestampCallback(uint64_t (*callback)(void)) {
    LOCKED
    knobs.calls++;
    if (knobs.kinds || !knobs.subscribed) knobs.misplaced++;
    timestamp = callback;
    return OK;
}

result cuptiActivityRegisterCallbacks(request_fn requested, complete_fn completed) {
    LOCKED
    knobs.calls++;
    if (knobs.kinds || !knobs.subscribed) knobs.misplaced++;
    request = requested;
    complete = completed;
    return OK;
}

result cuptiActivityEnable(uint32_t kind) {
    LOCKED
    knobs.calls++;
    if (!request) knobs.misplaced++;
    if (kind == 51 && knobs.enable_code) return knobs.enable_code;
    if (!kind_enabled[kind]++) knobs.kinds++;
    return OK;
}

result cuptiActivityDisable(uint32_t kind) {
    LOCKED
    knobs.calls++;
    if (kind_enabled[kind]) {
        kind_enabled[kind] = 0;
        knobs.kinds--;
    }
    return OK;
}

#ifndef NO_ENABLE_DRIVER_API
result cuptiActivityEnableDriverApi(uint32_t cbid, uint8_t enable) {
    LOCKED
    knobs.calls++;
    knobs.driver_calls += (uint32_t)enable - api_enabled[cbid];
    api_enabled[cbid] = enable;
    return OK;
}
#endif

#ifndef NO_FLUSH_ALL
result cuptiActivityFlushAll(uint32_t flag) {
    LOCKED
    (void)flag;
    knobs.calls++;
    if (!request) return INVALID_OPERATION;
    if (knobs.flush_code) return knobs.flush_code;
    knobs.clock = timestamp ? timestamp() : 0;
    /* All are asked for before the first is returned. */
    size_t size[HELD_MAX] = {0}, records = 0;
    uint32_t count = knobs.requests < HELD_MAX ? knobs.requests : HELD_MAX;
    for (uint32_t i = 0; i < count; i++) {
        request(&held[i], &size[i], &records);
        knobs.refused += held[i] == NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!held[i]) continue;
        size_t valid = knobs.canned_size <= size[i] ? knobs.canned_size : 0;
        memcpy(held[i], knobs.canned, valid);
        knobs.canned_size -= valid;
        complete(NULL, 0, held[i], size[i], valid);
    }
    for (uint32_t i = 0; i < knobs.strange; i++) complete(NULL, 0, token, 8, 8);
    return OK;
}
#endif

result cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *dropped) {
    LOCKED
    (void)context, (void)stream;
    knobs.calls++;
    *dropped = knobs.dropped;
    knobs.dropped = 0;
    return OK;
}

static size_t size_of(const uint8_t *record) {
    uint32_t kind;
    memcpy(&kind, record, sizeof kind);
    return kind == 39 ? 24 : kind == 4 ? 40 : kind == 51 ? 56 : kind == 10 ? 216 : 0;
}

result cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, uint8_t **record) {
    LOCKED
    if (!buffer) return INVALID_PARAMETER;
    uint8_t *next = *record ? *record + size_of(*record) : buffer;
    size_t at = (size_t)(next - buffer);
    if (at >= valid) return MAX_LIMIT;
    if (!size_of(next) || at + size_of(next) > valid) return INVALID_KIND;
    *record = next;
    return OK;
}

result cuptiActivityPushExternalCorrelationId(uint32_t kind, uint64_t id) {
    LOCKED
    knobs.calls++;
    knobs.depth++;
    knobs.last_kind = kind;
    knobs.last_id = id;
    return OK;
}

result cuptiActivityPopExternalCorrelationId(uint32_t kind, uint64_t *last) {
    LOCKED
    (void)kind;
    knobs.calls++;
    if (!knobs.depth) return QUEUE_EMPTY;
    knobs.depth--;
    *last = knobs.last_id;
    return OK;
}

result cuptiGetStreamId(void *context, void *stream, uint32_t *id) {
    LOCKED
    (void)context;
    knobs.calls++;
    if (!stream) return INVALID_PARAMETER;
    static void *seen[16];
    uint32_t at = 0;
    while (at < 15 && seen[at] && seen[at] != stream) at++;
    seen[at] = stream;
    *id = 42 + at;
    return OK;
}
