/* stepscope for C and C++. Generated from capi/src by cbindgen; do not edit: change the Rust
 * documentation and run `cargo test -p stepscope-capi --test header`.
 *
 * Ownership
 *
 *   Handles (stepscope_scope, _recorder, _gpu, _lane, _device, _snapshot) are made by functions with
 *   a last parameter `out`, belong to you, and are given back by the function named `..._free`, which
 *   takes the address of your pointer and leaves NULL in it. What is plain data (stepscope_request,
 *   _step, _stream, _series, _ticket and all structs with named fields) is yours entirely: it holds no
 *   memory of the library's and needs no freeing, but a request or a step must be ended, and must not
 *   be used as two copies. Strings that you pass are read during the call only; strings that you get
 *   belong to the library, and each function says for how long they are valid. A handle must not be
 *   used after it was freed.
 *
 * Threads
 *
 *   A scope, a GPU, a device and a snapshot may be used from any thread. A recorder and a lane belong
 *   to one thread: the first that uses them, until it lets go. A verb on a wrong thread does nothing
 *   and is counted; it is never undefined. Each function says `Thread:`. Start a scope after a fork,
 *   not before: a child has no threads of the library's.
 *
 * Errors
 *
 *   Verbs (what a thread of the engine calls with a recorder) answer nothing, never block, never
 *   allocate; what cannot be is counted in llm_invalid_total and does nothing. All other functions
 *   answer a stepscope_status, and stepscope_last_error() says it in words. NULL is allowed wherever a
 *   pointer is asked for: verbs do nothing, other functions answer STEPSCOPE_ERROR_NULL. An engine may
 *   therefore ignore that stepscope_start failed. No function throws or lets a panic through.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC. Read stepscope_now() once per scheduling pass and once per
 * step end, and give that time to every verb.
 *
 * Example: one request on an engine of one sequence.
 *
 *   #include "stepscope.h"
 *   #include <stdio.h>
 *
 *   int main(void) {
 *       stepscope_config config = {.size = sizeof config};
 *       config.model = "llama-3-8b";
 *       config.listen = "127.0.0.1:0"; // the system chooses the port
 *
 *       stepscope_scope *scope = NULL;
 *       stepscope_recorder *rec = NULL;
 *       stepscope_series chat = {0};
 *       if (stepscope_start(&config, &scope) != STEPSCOPE_OK)
 *           fprintf(stderr, "no telemetry: %s\n", stepscope_last_error());
 *       stepscope_intern_series(scope, "chat", NULL, &chat);
 *       stepscope_recorder_new(scope, "engine", NULL, 0, &rec);
 *       stepscope_mark_ready(scope);
 *
 *       uint64_t now = stepscope_now();
 *       stepscope_request request = stepscope_arrive(rec, chat, 42, now);
 *       stepscope_enqueue(rec, &request, now);
 *       stepscope_schedule(rec, &request, now, 0, 0);
 *       stepscope_prefill(rec, &request, 512);
 *       for (int token = 0; token < 10; token++) {
 *           stepscope_shape shape = {token == 0, token == 0 ? 512 : 0, token > 0};
 *           stepscope_step step = stepscope_begin_step(rec, stepscope_now(), shape);
 *           // launch the model's kernels here
 *           stepscope_step_launched(rec, &step, STEPSCOPE_LAUNCH_STAMP);
 *           // wait for their results here
 *           stepscope_end_step(rec, &step, stepscope_now());
 *           stepscope_token(rec, &step, &request, 1);
 *       }
 *       stepscope_finish(rec, &request, stepscope_now(), STEPSCOPE_STOP, 0);
 *
 *       stepscope_shutdown(scope, 0);
 *       stepscope_recorder_free(&rec);
 *       stepscope_free(&scope);
 *       return 0;
 *   }
 */

#ifndef STEPSCOPE_H
#define STEPSCOPE_H

#include <stddef.h>
#include <stdint.h>

// Most sequences that one call of `stepscope_tokens` takes.
#define STEPSCOPE_BATCH_MAX 1048576

// Most labels that one question may name.
#define STEPSCOPE_LABELS_MAX 64

// The readings of one GPU.
typedef struct stepscope_device stepscope_device;

// The stamps on one CUDA context.
typedef struct stepscope_gpu stepscope_gpu;

// Complete in `stepscope.cuh`: 16 bytes that an engine's kernel takes by value.
typedef struct stepscope_handle stepscope_handle;

// The steps of one CUDA stream.
typedef struct stepscope_lane stepscope_lane;

// Records what one engine thread does.
typedef struct stepscope_recorder stepscope_recorder;

// Telemetry of one worker: one model, one port. Several may live in one process.
typedef struct stepscope_scope stepscope_scope;

// Everything a scope exports, at one moment.
typedef struct stepscope_snapshot stepscope_snapshot;

// What a function answers. 0 = done; 1 to 99 = why a step has no device time; 100 and above =
// no error, and not what was asked for either; negative = an error, with a sentence in
// `stepscope_last_error`.
typedef int32_t stepscope_status;

// What this worker does of a request's life.
typedef uint32_t stepscope_role;

// Settings of one scope. Set `size` to `sizeof(stepscope_config)` and the rest to zero
// (`stepscope_config config = {.size = sizeof config};`), then what you want to change: 0 and NULL mean
// the default. Read during `stepscope_start` only. Strings are UTF-8; what is not becomes U+FFFD.
//
// Later versions add fields at the end; `size` tells which version a program was built with.
typedef struct stepscope_config {
    // `sizeof(stepscope_config)`.
    size_t size;
    // Label `model` of every series; default `unknown`.
    const char *model;
    // Label `worker_id` of every series; default the host's name.
    const char *worker_id;
    // Name of the engine, in `llm_worker_info`.
    const char *engine;
    // Version of the engine, in `llm_worker_info`.
    const char *engine_version;
    // Label `gpu_id` of recorders that name no device; default `0`.
    const char *gpu_id;
    // Label `node`; default the host's name.
    const char *node;
    // Address of the HTTP server, such as `0.0.0.0:9464`; port 0 lets the system choose, `off`
    // starts no server; default `127.0.0.1:9464`.
    const char *listen;
    // What this worker does: a `STEPSCOPE_ROLE_` number.
    stepscope_role role;
    // A request's TTFT is good up to this, in ms.
    uint32_t ttft_objective_ms;
    // A gap between tokens is slow above this, in ms.
    uint32_t tbt_objective_ms;
    // Most request classes, 1 to 32,767; default 256.
    uint32_t series_max;
    // Events one recorder's ring holds, 16 to 1,048,576; default 8,192.
    uint32_t ring_events;
    // Longest label value in bytes, 8 to 1,024; default 128.
    uint32_t label_bytes_max;
    // Token slots of one KV block; 0 = not told.
    uint32_t kv_block_tokens;
    // 1 = offer protobuf with native histograms. Turn it on only with
    // `always_scrape_classic_histograms: true` on the server.
    uint8_t native_histograms;
    // 1 = add `_created` to OpenMetrics.
    uint8_t created_series;
    // 1 = also export the `vllm:` families that endpoint pickers read.
    uint8_t vllm_aliases;
    // 1 = begin with the environment variables `STEPSCOPE_*`; what is set here wins over them.
    uint8_t read_environment;
    // Not 0 = a simulated clock that stands at this time, in ns, until `stepscope_advance` moves
    // it; no thread drains.
    uint64_t manual_clock_ns;
} stepscope_config;

// A class of requests (endpoint and priority). Plain data; the zeroed one is the class `other`.
typedef struct stepscope_series {
    // The library's.
    uint32_t opaque;
} stepscope_series;

// A priority level. Plain data; the zeroed one is `default`.
typedef struct stepscope_priority {
    // The library's.
    uint32_t opaque;
} stepscope_priority;

// A KV pool. Plain data; the zeroed one is `kv`, the attention cache.
typedef struct stepscope_pool {
    // The library's.
    uint32_t opaque;
} stepscope_pool;

// One request, or one more sequence of it: plain data, the engine's, to be kept anywhere and moved
// with memcpy, but never used as two copies. Zeroed = an empty slot, on which every verb is counted
// and does nothing. End it with `stepscope_finish` or `stepscope_join`, or say that it was lost
// with `stepscope_request_drop`: one that is simply forgotten stays in flight for ever.
typedef struct stepscope_request {
    // The library's; with room for what later versions keep.
    uint64_t opaque[12];
} stepscope_request;

// The arrival of a request in another process, to be carried along with its KV blocks.
typedef struct stepscope_origin {
    // Arrival on the first process's clock.
    uint64_t recv_ns;
    // Time from the arrival to the hand-over.
    uint64_t elapsed_ns;
    // Which clock `recv_ns` is on; 0 = unknown.
    uint32_t clock;
    // Zero.
    uint32_t reserved;
} stepscope_origin;

// Why a running sequence was put back to waiting.
typedef uint32_t stepscope_preempt_reason;

// Why computed tokens are in no answer.
typedef uint32_t stepscope_discard_reason;

// How a request ended.
typedef uint32_t stepscope_outcome;

// What a failed or rejected request died of; not looked at for other outcomes.
typedef uint32_t stepscope_error_type;

// What the thread that writes to the client needs to report the first chunk. Plain data.
typedef struct stepscope_stream {
    // The library's; with room for what later versions keep.
    uint64_t opaque[4];
} stepscope_stream;

// Why a request that is not running waits.
typedef uint32_t stepscope_wait_reason;

// One engine iteration: plain data, first begun, then ended. Zeroed = no step. Do not use copies.
typedef struct stepscope_step {
    // The library's; with room for what later versions keep.
    uint64_t opaque[16];
} stepscope_step;

// The composition of a step.
typedef struct stepscope_shape {
    // Sequences that compute prompt (or recomputed) positions.
    uint32_t prefills;
    // Positions those sequences compute.
    uint32_t prefill_tokens;
    // Sequences that decode.
    uint32_t decodes;
} stepscope_shape;

// How the end of a step was marked on the device.
typedef uint32_t stepscope_launch;

// How to attach to a GPU. Set `size` to `sizeof(stepscope_gpu_options)` and the rest to zero, then
// what you want to change: 0 and NULL mean the default.
typedef struct stepscope_gpu_options {
    // `sizeof(stepscope_gpu_options)`.
    size_t size;
    // The driver's library; default `libcuda.so.1`, the copy the engine has loaded.
    const char *library;
    // Label `gpu_id` of what the stamps tell; default the scope's.
    const char *gpu_id;
    // NVML's library; default the driver's.
    const char *nvml_library;
    // CUPTI's library; default it is searched for.
    const char *cupti_library;
    // Steps a lane remembers, a power of two from 64 to 1,048,576; default 16,384.
    uint32_t slots;
    // Lanes that can be opened, 1 to 64; default 4.
    uint16_t lanes;
    // 1 = do not read the device through NVML.
    uint8_t without_nvml;
    // 1 = CUPTI times whole graphs too; attach before the first graph is captured.
    uint8_t cupti_graphs;
} stepscope_gpu_options;

// One step on one lane: plain data, settled once. Zeroed = no step. Do not use copies.
typedef struct stepscope_ticket {
    // The library's; with room for what later versions keep.
    uint64_t opaque[12];
} stepscope_ticket;

// When a step ran on the GPU.
typedef struct stepscope_step_times {
    // Begin stamp on the host's clock, in ns.
    uint64_t begin_ns;
    // End stamp on the host's clock, in ns.
    uint64_t end_ns;
    // Stamp in between on the host's clock, in ns; 0 = none.
    uint64_t mark_a_ns;
    // Stamp in between on the host's clock, in ns; 0 = none.
    uint64_t mark_b_ns;
    // Bound of the error of the four times above, in ns.
    uint64_t error_ns;
    // Begin stamp as the GPU's timer said it, in ns modulo 2^48.
    uint64_t gpu_begin_ns;
    // End - begin on the GPU's own clock, in ns.
    uint64_t gpu_ns;
    // Begin - end of the lane's step before, in ns; `UINT64_MAX` = not known.
    uint64_t idle_before_ns;
} stepscope_step_times;

// How well GPU times are known on the host's clock.
typedef struct stepscope_gpu_clock_state {
    // Bound of the error of a time mapped now, in ns.
    uint64_t error_ns;
    // Smallest step of the GPU's timer, in ns.
    uint64_t resolution_ns;
    // Probe rounds that were kept.
    uint64_t rounds;
    // Probe rounds that were not.
    uint64_t rejected;
    // Jumps of the GPU's clock against the host's.
    uint64_t jumps;
    // Age of the newest round, in ns.
    uint64_t age_ns;
    // Grows with every jump; times of an older epoch cannot be mapped.
    uint64_t epoch;
} stepscope_gpu_clock_state;

// How far a lane is, as numbers of its steps.
typedef struct stepscope_gpu_lane_progress {
    // Steps begun.
    uint64_t issued;
    // Newest step whose end was launched.
    uint64_t ended;
    // Newest step that finished on the device.
    uint64_t completed;
    // Newest step that was given up.
    uint64_t abandoned;
} stepscope_gpu_lane_progress;

// A level that is read off a device.
typedef uint32_t stepscope_reading;

// A count of a device that only grows.
typedef uint32_t stepscope_tally;

// Takes a text piece by piece, on the calling thread: `length` bytes at `data`, no zero behind
// them, valid during the call. It must not throw or jump out.
typedef void (*stepscope_write)(void *user, const char *data, size_t length);

// A label that a series must have.
typedef struct stepscope_label {
    // Such as `status`.
    const char *name;
    // Such as `stop`.
    const char *value;
} stepscope_label;

// How important a line of the log is.
typedef uint32_t stepscope_log_level;

// Takes one line of the log, with a zero behind it, valid during the call. Called on any thread,
// the library's own among them and those that are inside of one of its functions, one line at a time per
// thread. It must not throw or jump out, and call nothing of the library but `stepscope_now`.
typedef void (*stepscope_log)(void *user, stepscope_log_level level, const char *line);

// Done.
#define STEPSCOPE_OK 0

// Never attached, or the context is gone.
#define STEPSCOPE_LOST_UNAVAILABLE 1

// Begun while the stream captured a graph.
#define STEPSCOPE_LOST_CAPTURING 2

// The driver refused a stamp's launch.
#define STEPSCOPE_LOST_LAUNCH_FAILED 3

// The end was never marked.
#define STEPSCOPE_LOST_NOT_ENDED 4

// Settled so late that a younger step has its slot.
#define STEPSCOPE_LOST_OVERWRITTEN 5

// An older step's stamp arrived late in this slot.
#define STEPSCOPE_LOST_FOREIGN 6

// The device's clock jumped in between.
#define STEPSCOPE_LOST_CLOCK_JUMP 7

// On the host's clock it would end before it began, or lie in the future.
#define STEPSCOPE_LOST_ACAUSAL 8

// A forked child has no GPU.
#define STEPSCOPE_LOST_FORKED 9

// After the GPU was detached.
#define STEPSCOPE_LOST_DETACHED 10

// The ticket is another GPU's.
#define STEPSCOPE_LOST_WRONG_OWNER 11

// The stamps are not there yet.
#define STEPSCOPE_PENDING 100

// The answer is no; `stepscope_last_error` says why.
#define STEPSCOPE_NO 101

// There is no such value now.
#define STEPSCOPE_ABSENT 102

// A pointer that is needed is NULL, or not aligned.
#define STEPSCOPE_ERROR_NULL -1

// A setting, a number or a name cannot be used.
#define STEPSCOPE_ERROR_INVALID -2

// The scope was shut down.
#define STEPSCOPE_ERROR_ENDED -3

// The address cannot be listened on.
#define STEPSCOPE_ERROR_LISTEN -4

// The process is at its limit of threads or memory.
#define STEPSCOPE_ERROR_RESOURCES -5

// The buffer is too small; the needed size was written.
#define STEPSCOPE_ERROR_TOO_SMALL -6

// Another thread uses this handle.
#define STEPSCOPE_ERROR_THREAD -7

// There is no GPU to stamp, or no device to read.
#define STEPSCOPE_ERROR_UNAVAILABLE -8

// The driver refused.
#define STEPSCOPE_ERROR_DRIVER -9

// Something is still under way, or the call came from inside a callback.
#define STEPSCOPE_ERROR_BUSY -10

// A fault inside stepscope that was caught.
#define STEPSCOPE_ERROR_PANIC -11

// Prefill and decode.
#define STEPSCOPE_ROLE_BOTH 0

// Prefill only: reports no user's TTFT.
#define STEPSCOPE_ROLE_PREFILL 1

// Decode only.
#define STEPSCOPE_ROLE_DECODE 2

// The model said stop.
#define STEPSCOPE_STOP 0

// The token limit was reached.
#define STEPSCOPE_LENGTH 1

// Role prefill only: the sequence lives on in another process.
#define STEPSCOPE_HANDOVER 2

// The client went away or cancelled.
#define STEPSCOPE_ABORTED 3

// The server failed it after accepting it; the error type says what of.
#define STEPSCOPE_FAILED 4

// The server did not take it on; the error type says why.
#define STEPSCOPE_REJECTED 5

// Device or host memory ran out.
#define STEPSCOPE_OOM 0

// A deadline passed.
#define STEPSCOPE_TIMEOUT 1

// A worker, a rank or the device died.
#define STEPSCOPE_CRASH 2

// Turned away because the engine is full.
#define STEPSCOPE_OVERLOAD 3

// Any other fault of the server.
#define STEPSCOPE_INTERNAL 4

// The caller's fault; never alerts.
#define STEPSCOPE_INPUT 5

// KV blocks ran out; it is computed again later.
#define STEPSCOPE_PREEMPT_MEMORY 0

// A more important request took its place.
#define STEPSCOPE_PREEMPT_PRIORITY 1

// Its KV blocks were swapped out.
#define STEPSCOPE_PREEMPT_SWAP 2

// Drafted and not accepted; `stepscope_spec` counts these.
#define STEPSCOPE_DISCARD_DRAFT 0

// Accepted by a step behind a stop.
#define STEPSCOPE_DISCARD_STOP_SURPLUS 1

// A beam or sample that lost.
#define STEPSCOPE_DISCARD_BEAM 2

// The request was aborted; `stepscope_finish` counts these.
#define STEPSCOPE_DISCARD_ABORTED 3

// For `stepscope_join`: the child's tokens are in the answer.
#define STEPSCOPE_DISCARD_NONE 4294967295

// No KV blocks or no place in the batch.
#define STEPSCOPE_WAIT_CAPACITY 0

// Held back by the scheduler on purpose.
#define STEPSCOPE_WAIT_DEFERRED 1

// Its grammar is being compiled.
#define STEPSCOPE_WAIT_GRAMMAR 2

// KV blocks are on their way.
#define STEPSCOPE_WAIT_KV_FETCH 3

// Its adapter is being loaded.
#define STEPSCOPE_WAIT_LORA 4

// Launch an end stamp on the stream now.
#define STEPSCOPE_LAUNCH_STAMP 0

// The graph that was just launched holds a captured end stamp.
#define STEPSCOPE_LAUNCH_IN_GRAPH 1

// Share of time in which some kernel ran, 0 to 1.
#define STEPSCOPE_UTILIZATION 0

// Bytes in use by anybody.
#define STEPSCOPE_MEMORY_USED 1

// Bytes in all.
#define STEPSCOPE_MEMORY_TOTAL 2

// Bytes the engine took at start for weights and KV blocks.
#define STEPSCOPE_MEMORY_PREALLOCATED 3

// Degrees Celsius.
#define STEPSCOPE_TEMPERATURE 4

// Watts drawn.
#define STEPSCOPE_POWER 5

// Watts it may draw.
#define STEPSCOPE_POWER_LIMIT 6

// Hertz of the multiprocessors.
#define STEPSCOPE_CLOCK_SM 7

// Hertz of the memory.
#define STEPSCOPE_CLOCK_MEMORY 8

// Device allocations that failed.
#define STEPSCOPE_ALLOC_FAILURES 0

// Energy used, in millijoules.
#define STEPSCOPE_ENERGY 1

// Nanoseconds below its clocks because it is too hot.
#define STEPSCOPE_THROTTLE_THERMAL 2

// Nanoseconds below its clocks because the power supply asked for it.
#define STEPSCOPE_THROTTLE_POWER_BRAKE 3

// Nanoseconds below its clocks because of the power limit.
#define STEPSCOPE_THROTTLE_POWER_CAP 4

// XID errors after which the device or the context is gone.
#define STEPSCOPE_XID_FATAL 5

// XID errors that an application caused.
#define STEPSCOPE_XID_APP 6

// XID errors that are only worth a note.
#define STEPSCOPE_XID_NOTICE 7

// Uncorrectable memory errors.
#define STEPSCOPE_ECC_UNCORRECTED 8

// Packets sent again over PCIe.
#define STEPSCOPE_PCIE_REPLAYS 9

// Something does not work.
#define STEPSCOPE_LOG_ERROR 1

// Something works less than it could.
#define STEPSCOPE_LOG_WARN 2

// Worth knowing.
#define STEPSCOPE_LOG_INFO 3

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Starts a scope: one thread that aggregates and one that answers HTTP (`stepscope_config.listen`).
// Start it after a fork, in the process that serves. In a child that is forked later it is a shell:
// verbs reach nobody, readers see an empty scope, nothing waits, and a new scope may be started.
// `config` NULL = all defaults. On failure `*out` is NULL, which every function accepts, so an
// engine may log `stepscope_last_error` and serve on.
//
// Thread: any. Ownership: end it with `stepscope_shutdown`, free it with `stepscope_free`.
stepscope_status stepscope_start(const struct stepscope_config *config,
                                 struct stepscope_scope **out);

// Ends a scope: drains once more, waits up to `patience_ms` for one more scrape if anybody ever
// scraped, and joins the threads. The handle stays valid, and every function that gets it answers
// `STEPSCOPE_ERROR_ENDED`; so does a second call. Recorders go on without harm and record nothing
// that anybody reads.
//
// Thread: any; waits for calls of other threads that are under way.
stepscope_status stepscope_shutdown(struct stepscope_scope *scope, uint32_t patience_ms);

// Frees a scope, which it shuts down with a patience of 100 ms if nobody did; `*scope` becomes
// NULL. NULL, and a pointer to NULL, are fine.
//
// Thread: any, when no other call with this scope is under way.
void stepscope_free(struct stepscope_scope **scope);

// Names a class of requests. Do it up front, not per request: it takes a lock. The same names give
// the same class; when the table is full it is `other`, and counted. `priority` NULL = `default`.
//
// Thread: any. `*out` is `other` after a failure.
stepscope_status stepscope_intern_series(const struct stepscope_scope *scope,
                                         const char *endpoint,
                                         const char *priority,
                                         struct stepscope_series *out);

// Names a priority level, one of at most eight.
//
// Thread: any. `*out` is `default` after a failure.
stepscope_status stepscope_intern_priority(const struct stepscope_scope *scope,
                                           const char *name,
                                           struct stepscope_priority *out);

// Names a KV pool, one of at most eight. The attention cache needs no name: it is the zeroed pool.
//
// Thread: any. `*out` is `kv` after a failure.
stepscope_status stepscope_intern_pool(const struct stepscope_scope *scope,
                                       const char *name,
                                       struct stepscope_pool *out);

// The engine can serve: `/readyz` answers 200 from here on.
//
// Thread: any.
stepscope_status stepscope_mark_ready(const struct stepscope_scope *scope);

// The engine finishes what it has and takes nothing new: `/readyz` answers 503.
//
// Thread: any.
stepscope_status stepscope_mark_draining(const struct stepscope_scope *scope);

// The engine cannot go on: `/livez` answers 503, so that it is restarted.
//
// Thread: any.
stepscope_status stepscope_mark_failed(const struct stepscope_scope *scope);

// Moves a simulated clock to `to_ns` and drains; nothing with the real one.
//
// Thread: any.
stepscope_status stepscope_advance(const struct stepscope_scope *scope, uint64_t to_ns);

// The port our HTTP server listens on, for `listen` with port 0; `STEPSCOPE_ABSENT` without one.
//
// Thread: any.
stepscope_status stepscope_port(const struct stepscope_scope *scope, uint16_t *out);

// Now, on the clock of every verb: CLOCK_MONOTONIC in ns, never 0. About 25 ns, no system call.
//
// Thread: any.
uint64_t stepscope_now(void);

// Makes a recorder for one engine thread. `gpu_id` NULL = the scope's; `ring_events` 0 = the
// scope's. On failure `*out` is NULL: every verb on it does nothing.
//
// Thread: any. The recorder then belongs to the first thread that calls a verb with it: verbs of
// other threads are refused and counted in `llm_invalid_total{reason="thread"}`, until that thread
// calls `stepscope_recorder_let_go`. Ownership: free it with `stepscope_recorder_free`.
stepscope_status stepscope_recorder_new(const struct stepscope_scope *scope,
                                        const char *name,
                                        const char *gpu_id,
                                        uint32_t ring_events,
                                        struct stepscope_recorder **out);

// Lets the next thread that calls a verb have the recorder.
//
// Thread: the recorder's; another one gets `STEPSCOPE_ERROR_THREAD`.
stepscope_status stepscope_recorder_let_go(const struct stepscope_recorder *recorder);

// Gives the recorder a lane, and takes it over: `*lane` becomes NULL. `stepscope_begin_step`,
// `stepscope_step_launched` and `stepscope_end_step` then stamp. Capture stamps into graphs before.
//
// Thread: the recorder's, whichever thread used the lane before; no call with it is under way.
stepscope_status stepscope_recorder_set_lane(const struct stepscope_recorder *recorder,
                                             struct stepscope_lane **lane);

// Frees a recorder; what it counted stays counted. `*recorder` becomes NULL. NULL, and a pointer
// to NULL, are fine. Its requests may go on with another recorder.
//
// Thread: any, when no other call with this recorder is under way.
void stepscope_recorder_free(struct stepscope_recorder **recorder);

// The request is in. `id` is the engine's own number; it names the request in exemplars.
//
// Thread: the recorder's.
struct stepscope_request stepscope_arrive(const struct stepscope_recorder *recorder,
                                          struct stepscope_series series,
                                          uint64_t id,
                                          uint64_t at_ns);

// The request came to another process first, which handed over `origin`.
//
// Thread: the recorder's.
struct stepscope_request stepscope_arrive_from(const struct stepscope_recorder *recorder,
                                               struct stepscope_series series,
                                               uint64_t id,
                                               const struct stepscope_origin *origin,
                                               uint64_t at_ns);

// What travels with the KV blocks when another process decodes on; zeroed without a request.
//
// Thread: the recorder's.
struct stepscope_origin stepscope_request_origin(const struct stepscope_recorder *recorder,
                                                 const struct stepscope_request *request,
                                                 uint64_t at_ns);

// The request stands in the scheduler's queue.
//
// Thread: the recorder's.
void stepscope_enqueue(const struct stepscope_recorder *recorder,
                       struct stepscope_request *request,
                       uint64_t at_ns);

// Admitted into a batch. `cached` and `transferred` prompt positions need no compute.
//
// Thread: the recorder's.
void stepscope_schedule(const struct stepscope_recorder *recorder,
                        struct stepscope_request *request,
                        uint64_t at_ns,
                        uint32_t cached,
                        uint32_t transferred);

// `positions` of this sequence are computed in a step: a chunk of its prompt, or recompute.
// Nothing takes it back: tell it once the step is sure to run, which may be behind its launch.
//
// Thread: the recorder's.
void stepscope_prefill(const struct stepscope_recorder *recorder,
                       struct stepscope_request *request,
                       uint32_t positions);

// A running sequence is put back to waiting. An unknown reason is counted, and recorded as memory.
//
// Thread: the recorder's.
void stepscope_preempt(const struct stepscope_recorder *recorder,
                       struct stepscope_request *request,
                       uint64_t at_ns,
                       stepscope_preempt_reason reason);

// One more sequence of the same request (n > 1, beams). Call it before the step's
// `stepscope_tokens`; `stepscope_join` ends it.
//
// Thread: the recorder's.
struct stepscope_request stepscope_fork(const struct stepscope_recorder *recorder,
                                        struct stepscope_request *lead);

// `child` emitted before its lead did: its time is the request's TTFT.
//
// Thread: the recorder's.
void stepscope_first_from(const struct stepscope_recorder *recorder,
                          struct stepscope_request *lead,
                          const struct stepscope_request *child);

// A child ended; its gaps count for the request. `discard` says why its tokens are in no answer,
// or `STEPSCOPE_DISCARD_NONE`. The slot is marked ended: a second call is counted.
//
// Thread: the recorder's.
void stepscope_join(const struct stepscope_recorder *recorder,
                    struct stepscope_request *lead,
                    struct stepscope_request *child,
                    uint64_t at_ns,
                    stepscope_discard_reason discard);

// The request ended. The slot is marked ended: a second call is counted. An unknown outcome or
// error type is counted, and recorded as failed, internal.
//
// Thread: the recorder's.
void stepscope_finish(const struct stepscope_recorder *recorder,
                      struct stepscope_request *request,
                      uint64_t at_ns,
                      stepscope_outcome outcome,
                      stepscope_error_type error);

// The request is lost to the engine: no more verbs will come. It leaves in flight and is counted
// in `llm_invalid_total{reason="dropped"}`; the slot becomes empty.
//
// Thread: any, one at a time for a request.
void stepscope_request_drop(struct stepscope_request *request);

// Tokens accepted for this sequence so far; 0 for NULL.
//
// Thread: any that may look at the request.
uint32_t stepscope_request_tokens(const struct stepscope_request *request);

// `tokens` were computed and are in no answer. Rejected drafts are counted by `stepscope_spec`,
// aborted tokens by `stepscope_finish`. An unknown reason is counted and nothing else.
//
// Thread: the recorder's.
void stepscope_discard(const struct stepscope_recorder *recorder,
                       struct stepscope_request *request,
                       stepscope_discard_reason reason,
                       uint32_t tokens);

// A speculation step drafted and accepted so many tokens for this sequence.
//
// Thread: the recorder's.
void stepscope_spec(const struct stepscope_recorder *recorder,
                    struct stepscope_request *request,
                    uint32_t drafted,
                    uint32_t accepted);

// A handle for the thread that writes to the client; zeroed without a request.
//
// Thread: any that may look at the request.
struct stepscope_stream stepscope_request_stream(const struct stepscope_request *request);

// The first chunk with a generated token is handed to the transport. Later calls for the same
// stream are one compare.
//
// Thread: the recorder's; the transport thread has a recorder of its own.
void stepscope_emitted(const struct stepscope_recorder *recorder,
                       struct stepscope_stream *stream,
                       uint64_t at_ns);

// Level: how many requests of this priority wait for this reason. One recorder per level.
//
// Thread: the recorder's.
void stepscope_queue(const struct stepscope_recorder *recorder,
                     stepscope_wait_reason reason,
                     struct stepscope_priority priority,
                     uint32_t waiting);

// Level, and one sample of the usage: call it once per step. `referenced` blocks are held by
// sequences, `cached` ones are unreferenced but reusable, `usable` = total - reserved;
// `slots_used` = token slots filled in the referenced blocks.
//
// Thread: the recorder's.
void stepscope_kv(const struct stepscope_recorder *recorder,
                  struct stepscope_pool pool,
                  uint32_t referenced,
                  uint32_t cached,
                  uint32_t usable,
                  uint32_t slots_used);

// A step begins, directly before its first launch. Launches the begin stamp if there is a lane.
//
// Thread: the recorder's.
struct stepscope_step stepscope_begin_step(const struct stepscope_recorder *recorder,
                                           uint64_t at_ns,
                                           struct stepscope_shape shape);

// Directly after the step's last launch. Does nothing without a lane.
//
// Thread: the recorder's.
void stepscope_step_launched(const struct stepscope_recorder *recorder,
                             struct stepscope_step *step,
                             stepscope_launch how);

// The step's outputs are on the host. Its time is the GPU's end if the stamps are there, else
// `at_ns`. A step that is not begun is counted.
//
// Thread: the recorder's.
void stepscope_end_step(const struct stepscope_recorder *recorder,
                        struct stepscope_step *step,
                        uint64_t at_ns);

// The step did not run (a launch failed): it leaves no sample.
// What `stepscope_prefill` was told for it stays counted.
//
// Thread: the recorder's.
void stepscope_step_abandon(const struct stepscope_recorder *recorder, struct stepscope_step *step);

// The time of an ended step's tokens, in ns; 0 for any other.
//
// Thread: any that may look at the step.
uint64_t stepscope_step_time(const struct stepscope_step *step);

// The tokens of a whole batch at once: sequence `i` lies `i * stride` bytes behind `first`, so
// requests may sit in the engine's own structs, and the step accepted `accepted[i]` tokens for it;
// `accepted` NULL = 1 each. 0 (a chunk of prompt, nothing sampled) records nothing. `stride` is at
// least `sizeof(stepscope_request)` and a multiple of 8, `n` at most `STEPSCOPE_BATCH_MAX`; another
// batch is counted and records nothing.
//
// Thread: the recorder's.
void stepscope_tokens(const struct stepscope_recorder *recorder,
                      const struct stepscope_step *step,
                      struct stepscope_request *first,
                      size_t stride,
                      const uint32_t *accepted,
                      size_t n);

// The same for requests that lie anywhere: `each` is an array of `n` pointers. NULL ones are left
// out. A request that is there twice emits twice, the second time at gap 0, which is counted.
//
// Thread: the recorder's.
void stepscope_tokens_at(const struct stepscope_recorder *recorder,
                         const struct stepscope_step *step,
                         struct stepscope_request *const *each,
                         const uint32_t *accepted,
                         size_t n);

// The same for one sequence: a decode loop of batch 1.
//
// Thread: the recorder's.
void stepscope_token(const struct stepscope_recorder *recorder,
                     const struct stepscope_step *step,
                     struct stepscope_request *request,
                     uint32_t accepted);

// Attaches to the GPU whose context `stream` belongs to (a `CUstream` or `cudaStream_t`; NULL = the
// legacy default stream of the current context). Attach after the engine's own initialisation and
// not while it serves. Without a GPU the answer is `STEPSCOPE_ERROR_UNAVAILABLE`, with options that
// cannot be `STEPSCOPE_ERROR_INVALID`: steps are then timed by the host's clock. `options` NULL = all
// defaults.
//
// Thread: one on which the engine's context is current. Ownership: stop stepping, call
// `stepscope_gpu_detach`, then destroy the context, then `stepscope_gpu_free`. `stream` must live
// as long as a lane is open on it.
stepscope_status stepscope_gpu_attach(const struct stepscope_scope *scope,
                                      void *stream,
                                      const struct stepscope_gpu_options *options,
                                      struct stepscope_gpu **out);

// Takes the stamps apart. Stop stepping first. The handle and its lanes become inert.
// `STEPSCOPE_ERROR_BUSY`: steps were still under way after `patience_ms`, or graphs of the engine
// may still stamp; the memory is then kept, which is safe. May be asked again, and goes on then.
//
// Thread: any.
stepscope_status stepscope_gpu_detach(const struct stepscope_gpu *gpu, uint32_t patience_ms);

// Frees the handle; lanes that are open go on. `*gpu` becomes NULL. NULL, and a pointer to NULL,
// are fine.
//
// Thread: any, when no other call with this handle is under way.
void stepscope_gpu_free(struct stepscope_gpu **gpu);

// What the stamps of a step say now; may be asked again. `STEPSCOPE_OK` fills `*out`,
// `STEPSCOPE_PENDING` = not there yet, 1 to 99 = lost, and why.
//
// Thread: any that may look at the ticket.
stepscope_status stepscope_gpu_resolve(const struct stepscope_gpu *gpu,
                                       const struct stepscope_ticket *ticket,
                                       struct stepscope_step_times *out);

// The same for the last time, and counted; the ticket becomes empty.
//
// Thread: any, one at a time for a ticket.
stepscope_status stepscope_gpu_settle(const struct stepscope_gpu *gpu,
                                      struct stepscope_ticket *ticket,
                                      struct stepscope_step_times *out);

// How well GPU times are known on the host's clock.
//
// Thread: any.
stepscope_status stepscope_gpu_clock(const struct stepscope_gpu *gpu,
                                     struct stepscope_gpu_clock_state *out);

// Whether CUPTI times whole graphs too, as `stepscope_gpu_options.cupti_graphs` asked: `STEPSCOPE_OK`, or
// `STEPSCOPE_NO` and `stepscope_last_error` says why not, for good. Stamps go on without it.
//
// Thread: any.
stepscope_status stepscope_gpu_cupti(const struct stepscope_gpu *gpu);

// How far a lane is; readable while the engine's thread hangs. A lane that was never opened has
// made no step.
//
// Thread: any.
stepscope_status stepscope_gpu_progress(const struct stepscope_gpu *gpu,
                                        uint16_t lane,
                                        struct stepscope_gpu_lane_progress *out);

// Opens a lane for the steps of one stream; lanes are never recycled.
//
// Thread: one on which the engine's context is current. The lane then belongs to the first thread
// that uses it. Ownership: give it to a recorder with `stepscope_recorder_set_lane`, or free it
// with `stepscope_lane_free`.
stepscope_status stepscope_lane_open(const struct stepscope_gpu *gpu,
                                     void *stream,
                                     struct stepscope_lane **out);

// Frees a lane that no recorder took over. `*lane` becomes NULL. NULL, and a pointer to NULL, are
// fine.
//
// Thread: any, when no other call with this lane is under way.
void stepscope_lane_free(struct stepscope_lane **lane);

// Lets the next thread that uses the lane have it: one that captured graphs may give it to one that steps.
//
// Thread: the lane's; another one gets `STEPSCOPE_ERROR_THREAD`.
stepscope_status stepscope_lane_let_go(const struct stepscope_lane *lane);

// While `capturing` captures a graph: adds a stamp as its next node. `point` is a number of
// `stepscope.cuh`: 0 begin, 1 and 2 anything in between, 3 end. Replays then stamp the step that
// was begun last on this lane.
//
// Thread: the lane's.
stepscope_status stepscope_lane_capture(const struct stepscope_lane *lane,
                                        void *capturing,
                                        uint32_t point);

// What an engine's kernel needs to stamp by itself; see `stepscope.cuh`, where `stepscope_handle`
// is complete.
//
// Thread: the lane's.
stepscope_status stepscope_lane_device_handle(const struct stepscope_lane *lane,
                                              struct stepscope_handle *out);

// Number of the lane in its GPU, from 0 on, for `stepscope_gpu_progress`.
//
// Thread: the lane's.
stepscope_status stepscope_lane_id(const struct stepscope_lane *lane, uint16_t *out);

// Launches a begin stamp by hand, for an engine that wants times without a recorder. Directly
// before the first launch of the step.
//
// Thread: the lane's, with the engine's context current.
stepscope_status stepscope_lane_begin(const struct stepscope_lane *lane,
                                      struct stepscope_shape shape,
                                      struct stepscope_ticket *out);

// Marks the end, directly after the step's last launch and before the engine's own event.
//
// Thread: the lane's, with the engine's context current.
stepscope_status stepscope_lane_end(const struct stepscope_lane *lane,
                                    struct stepscope_ticket *ticket,
                                    stepscope_launch how);

// The step did not run; the ticket becomes empty.
//
// Thread: the lane's.
stepscope_status stepscope_lane_abandon(const struct stepscope_lane *lane,
                                        struct stepscope_ticket *ticket);

// The readings of one GPU, to be fed by an engine that knows them better than NVML, or has none.
// What is never told has no series.
//
// Thread: any. Ownership: free it with `stepscope_device_free`; what it told stays.
stepscope_status stepscope_device_new(const struct stepscope_scope *scope,
                                      const char *gpu_id,
                                      struct stepscope_device **out);

// Frees the handle. `*device` becomes NULL. NULL, and a pointer to NULL, are fine.
//
// Thread: any, when no other call with this handle is under way.
void stepscope_device_free(struct stepscope_device **device);

// Sets a level, in the unit of the reading. A value that is no finite number clears it.
//
// Thread: any; no call waits.
stepscope_status stepscope_device_set(const struct stepscope_device *device,
                                      stepscope_reading reading,
                                      double value);

// The level is not known any more: its series goes away.
//
// Thread: any; no call waits.
stepscope_status stepscope_device_clear(const struct stepscope_device *device,
                                        stepscope_reading reading);

// Adds to a count, in the unit of the count. Adding 0 makes its series exist.
//
// Thread: any; no call waits.
stepscope_status stepscope_device_add(const struct stepscope_device *device,
                                      stepscope_tally tally,
                                      uint64_t by);

// An XID error was seen: adds one to its count; `/health` names the code.
//
// Thread: any; no call waits.
stepscope_status stepscope_device_xid(const struct stepscope_device *device,
                                      stepscope_tally tally,
                                      uint64_t code);

// Reads a device through NVML, on a thread of the scope. `which` is its PCI bus id
// (`0000:65:00.0`) or UUID (`GPU-...`, `MIG-...`); `library` NULL = the driver's.
// `stepscope_gpu_attach` does it for the device it attaches to. Takes 10 ms to seconds.
//
// Thread: any.
stepscope_status stepscope_watch_device(const struct stepscope_scope *scope,
                                        const char *gpu_id,
                                        const char *which,
                                        const char *library);

// Answers a scrape from the engine's own HTTP server: hands the body to `write`, and stores the
// value of `Content-Type` (a constant; never free it) in `*content_type` unless that is NULL.
// `accept` is the client's Accept header; NULL = text 0.0.4.
//
// Thread: any but an engine's hot one: it takes milliseconds.
stepscope_status stepscope_metrics_write(const struct stepscope_scope *scope,
                                         const char *accept,
                                         const char **content_type,
                                         stepscope_write write,
                                         void *user);

// The exposition as text 0.0.4 in the caller's buffer, with a zero byte behind it. `*needed` (may
// be NULL) becomes the size it takes; with `STEPSCOPE_ERROR_TOO_SMALL` nothing was written. It may
// have grown when you ask again: ask with room to spare, or use `stepscope_metrics_write`.
//
// Thread: any but an engine's hot one: it takes milliseconds.
stepscope_status stepscope_metrics_text(const struct stepscope_scope *scope,
                                        char *buffer,
                                        size_t size,
                                        size_t *needed);

// What is wrong, with evidence and first advice, as the JSON of `/health`.
//
// Thread: any but an engine's hot one.
stepscope_status stepscope_health_write(const struct stepscope_scope *scope,
                                        stepscope_write write,
                                        void *user);

// The same in the caller's buffer; as for `stepscope_metrics_text`.
//
// Thread: any but an engine's hot one.
stepscope_status stepscope_health_text(const struct stepscope_scope *scope,
                                       char *buffer,
                                       size_t size,
                                       size_t *needed);

// Must this process be restarted? `STEPSCOPE_OK` = no, it lives; `STEPSCOPE_NO` = yes, and
// `stepscope_last_error` says why. The answer of `/livez`.
//
// Thread: any; never waits for a scrape.
stepscope_status stepscope_live(const struct stepscope_scope *scope);

// May it get new requests? `STEPSCOPE_OK` or `STEPSCOPE_NO`; `stepscope_last_error` says why not.
// The answer of `/readyz`.
//
// Thread: any; never waits for a scrape.
stepscope_status stepscope_ready(const struct stepscope_scope *scope);

// Everything the scope exports, now, for `stepscope_snapshot_sum` and
// `stepscope_snapshot_quantile`.
//
// Thread: any but an engine's hot one. Ownership: free it with `stepscope_snapshot_free`.
stepscope_status stepscope_snapshot_take(const struct stepscope_scope *scope,
                                         struct stepscope_snapshot **out);

// Frees a snapshot. `*snapshot` becomes NULL. NULL, and a pointer to NULL, are fine.
//
// Thread: any, when no other call with this snapshot is under way.
void stepscope_snapshot_free(struct stepscope_snapshot **snapshot);

// The sum of a family's series that have all `n` labels: of counters and levels the values, of
// histograms the numbers of samples. `name` is the family's without a suffix. `STEPSCOPE_ABSENT`
// and 0 if there is no such series.
//
// Thread: any.
stepscope_status stepscope_snapshot_sum(const struct stepscope_snapshot *snapshot,
                                        const char *name,
                                        const struct stepscope_label *labels,
                                        size_t n,
                                        double *out);

// The smallest bucket bound that at least a share `q` (0 to 1) of the samples does not exceed, in
// the family's exported unit, over the series that have all `n` labels. `STEPSCOPE_ABSENT` and 0
// without samples, or above the last bound.
//
// Thread: any.
stepscope_status stepscope_snapshot_quantile(const struct stepscope_snapshot *snapshot,
                                             const char *name,
                                             const struct stepscope_label *labels,
                                             size_t n,
                                             double q,
                                             double *out);

// The last failure on this thread in words: what is wrong and what to do. Empty if there was none.
// Valid until the next failure on this thread.
//
// Thread: any; each has its own.
const char *stepscope_last_error(void);

// Version of the library, such as `0.1.0`. A constant.
//
// Thread: any.
const char *stepscope_version(void);

// Sends the log of all scopes to `log`, lines as important as `least` or more; NULL = no log, as at
// the start. When it returns, the callback before is not running and will not be called again.
//
// A forked child begins without a log.
//
// Thread: any but from inside the callback, which gets `STEPSCOPE_ERROR_BUSY`.
stepscope_status stepscope_set_log(stepscope_log log, void *user, stepscope_log_level least);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STEPSCOPE_H */
