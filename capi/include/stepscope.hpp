/* stepscope for C++17: the handles and values of stepscope.h as move-only types.
 *
 * Nothing here throws, and every function is noexcept: it works with -fno-exceptions and -fno-rtti. An
 * empty object (default-made, moved-from, or from a start that failed) is fine everywhere: verbs do
 * nothing, other functions answer STEPSCOPE_ERROR_NULL. Threads and lifetimes of strings are as
 * stepscope.h says at each function.
 *
 *   stepscope_config config = {};
 *   config.size = sizeof config;
 *   config.model = "llama-3-8b";
 *   auto scope = stepscope::Scope::start(config);
 *   if (!scope) std::fprintf(stderr, "no telemetry: %s\n", stepscope_last_error());
 *   auto rec = scope.recorder("engine");
 *   auto request = rec.arrive(scope.series("chat"), 42, stepscope::now());
 *
 * Order of destruction: a scope may go before its recorders and after. A Gpu takes its stamps apart when it
 * goes: stop stepping first, and destroy the CUDA context after it. Recorders that have its lanes go on
 * without stamps.
 */
#ifndef STEPSCOPE_HPP
#define STEPSCOPE_HPP

#include "stepscope.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace stepscope {

using Status = stepscope_status;
using Time = std::uint64_t;

/* Reads the clock of every verb, in ns: once per scheduling pass and once per step end. */
inline Time now() noexcept { return stepscope_now(); }

/* A handle of the library's, given back when it goes out of scope. */
template <class T, void (*Free)(T **)>
class Handle {
public:
    Handle() noexcept = default;
    explicit Handle(T *raw) noexcept : raw_(raw) {}
    Handle(Handle &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            Free(&raw_);
            raw_ = std::exchange(other.raw_, nullptr);
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { Free(&raw_); }

    explicit operator bool() const noexcept { return raw_ != nullptr; }
    /* For the functions of stepscope.h. */
    T *raw() const noexcept { return raw_; }
    /* Where a function of stepscope.h may take the handle over. */
    T **place() noexcept { return &raw_; }
    /* Where a function of stepscope.h may put a new one: the one before goes. */
    T **fresh() noexcept {
        Free(&raw_);
        return &raw_;
    }

private:
    T *raw_ = nullptr;
};

/* One request. Destroyed before it was finished or joined, it is counted as dropped. */
class Request {
public:
    Request() noexcept : raw_{} {}
    explicit Request(const stepscope_request &raw) noexcept : raw_(raw) {}
    Request(Request &&other) noexcept : raw_(other.raw_) { other.raw_ = stepscope_request{}; }
    Request &operator=(Request &&other) noexcept {
        if (this != &other) {
            stepscope_request_drop(&raw_);
            raw_ = std::exchange(other.raw_, stepscope_request{});
        }
        return *this;
    }
    Request(const Request &) = delete;
    Request &operator=(const Request &) = delete;
    ~Request() { stepscope_request_drop(&raw_); }

    stepscope_request *raw() noexcept { return &raw_; }
    const stepscope_request *raw() const noexcept { return &raw_; }
    /* Tokens accepted for it so far. */
    std::uint32_t tokens() const noexcept { return stepscope_request_tokens(&raw_); }
    /* For the thread that writes to the client. */
    stepscope_stream stream() const noexcept { return stepscope_request_stream(&raw_); }

private:
    stepscope_request raw_;
};
static_assert(sizeof(Request) == sizeof(stepscope_request), "a request is its words and nothing else");

/* One step: begun by Recorder::begin_step, ended by Recorder::end_step. */
class Step {
public:
    Step() noexcept : raw_{} {}
    explicit Step(const stepscope_step &raw) noexcept : raw_(raw) {}
    Step(Step &&other) noexcept : raw_(std::exchange(other.raw_, stepscope_step{})) {}
    Step &operator=(Step &&other) noexcept {
        if (this != &other) raw_ = std::exchange(other.raw_, stepscope_step{});
        return *this;
    }
    Step(const Step &) = delete;
    Step &operator=(const Step &) = delete;

    stepscope_step *raw() noexcept { return &raw_; }
    const stepscope_step *raw() const noexcept { return &raw_; }
    /* The time of its tokens once it ended, else 0. */
    Time time() const noexcept { return stepscope_step_time(&raw_); }

private:
    stepscope_step raw_;
};

/* The steps of one CUDA stream; give it to a recorder. */
class Lane : public Handle<stepscope_lane, stepscope_lane_free> {
public:
    Status capture(void *capturing, std::uint32_t point) noexcept {
        return stepscope_lane_capture(raw(), capturing, point);
    }
    Status device_handle(stepscope_handle *out) noexcept { return stepscope_lane_device_handle(raw(), out); }
    Status id(std::uint16_t &out) const noexcept { return stepscope_lane_id(raw(), &out); }
    /* A step by hand, for times without a recorder; Gpu::settle tells them. */
    Status begin(stepscope_shape shape, stepscope_ticket &out) noexcept {
        return stepscope_lane_begin(raw(), shape, &out);
    }
    Status end(stepscope_ticket &ticket, stepscope_launch how = STEPSCOPE_LAUNCH_STAMP) noexcept {
        return stepscope_lane_end(raw(), &ticket, how);
    }
    Status abandon(stepscope_ticket &ticket) noexcept { return stepscope_lane_abandon(raw(), &ticket); }
    /* The next thread that uses the lane has it. */
    Status let_go() noexcept { return stepscope_lane_let_go(raw()); }
};

/* Takes the stamps apart and frees the handle; what steps are under way gets a tenth of a second. */
inline void end_gpu(stepscope_gpu **gpu) noexcept {
    if (gpu != nullptr && *gpu != nullptr) stepscope_gpu_detach(*gpu, 100);
    stepscope_gpu_free(gpu);
}

/* The stamps on one CUDA context. */
class Gpu : public Handle<stepscope_gpu, end_gpu> {
public:
    Lane lane(void *stream) const noexcept {
        Lane lane;
        stepscope_lane_open(raw(), stream, lane.fresh());
        return lane;
    }
    Status clock(stepscope_gpu_clock_state &out) const noexcept { return stepscope_gpu_clock(raw(), &out); }
    Status cupti() const noexcept { return stepscope_gpu_cupti(raw()); }
    Status progress(std::uint16_t lane, stepscope_gpu_lane_progress &out) const noexcept {
        return stepscope_gpu_progress(raw(), lane, &out);
    }
    Status resolve(const stepscope_ticket &ticket, stepscope_step_times &out) const noexcept {
        return stepscope_gpu_resolve(raw(), &ticket, &out);
    }
    Status settle(stepscope_ticket &ticket, stepscope_step_times &out) const noexcept {
        return stepscope_gpu_settle(raw(), &ticket, &out);
    }
    Status detach(std::uint32_t patience_ms) noexcept { return stepscope_gpu_detach(raw(), patience_ms); }
};

/* The readings of one GPU. */
class Device : public Handle<stepscope_device, stepscope_device_free> {
public:
    Status set(stepscope_reading reading, double value) const noexcept {
        return stepscope_device_set(raw(), reading, value);
    }
    Status clear(stepscope_reading reading) const noexcept { return stepscope_device_clear(raw(), reading); }
    Status add(stepscope_tally tally, std::uint64_t by) const noexcept {
        return stepscope_device_add(raw(), tally, by);
    }
    Status xid(stepscope_tally tally, std::uint64_t code) const noexcept {
        return stepscope_device_xid(raw(), tally, code);
    }
};

/* Everything a scope exported at one moment. */
class Snapshot : public Handle<stepscope_snapshot, stepscope_snapshot_free> {
public:
    /* 0 where there is no such series. */
    double sum(const char *family, const stepscope_label *labels = nullptr, std::size_t n = 0) const noexcept {
        double value = 0;
        stepscope_snapshot_sum(raw(), family, labels, n, &value);
        return value;
    }
    Status quantile(const char *family, double q, double &out, const stepscope_label *labels = nullptr,
                    std::size_t n = 0) const noexcept {
        return stepscope_snapshot_quantile(raw(), family, labels, n, q, &out);
    }
};

/* The verbs of one engine thread. */
class Recorder : public Handle<stepscope_recorder, stepscope_recorder_free> {
public:
    Request arrive(stepscope_series series, std::uint64_t id, Time at) noexcept {
        return Request(stepscope_arrive(raw(), series, id, at));
    }
    Request arrive_from(stepscope_series series, std::uint64_t id, const stepscope_origin &from, Time at) noexcept {
        return Request(stepscope_arrive_from(raw(), series, id, &from, at));
    }
    stepscope_origin origin(const Request &request, Time at) noexcept {
        return stepscope_request_origin(raw(), request.raw(), at);
    }
    void enqueue(Request &request, Time at) noexcept { stepscope_enqueue(raw(), request.raw(), at); }
    void schedule(Request &request, Time at, std::uint32_t cached = 0, std::uint32_t transferred = 0) noexcept {
        stepscope_schedule(raw(), request.raw(), at, cached, transferred);
    }
    void prefill(Request &request, std::uint32_t positions) noexcept {
        stepscope_prefill(raw(), request.raw(), positions);
    }
    void preempt(Request &request, Time at, stepscope_preempt_reason why) noexcept {
        stepscope_preempt(raw(), request.raw(), at, why);
    }
    Request fork(Request &lead) noexcept { return Request(stepscope_fork(raw(), lead.raw())); }
    void first_from(Request &lead, const Request &child) noexcept {
        stepscope_first_from(raw(), lead.raw(), child.raw());
    }
    void join(Request &lead, Request child, Time at,
              stepscope_discard_reason lost = STEPSCOPE_DISCARD_NONE) noexcept {
        stepscope_join(raw(), lead.raw(), child.raw(), at, lost);
    }
    void finish(Request request, Time at, stepscope_outcome outcome, stepscope_error_type error = 0) noexcept {
        stepscope_finish(raw(), request.raw(), at, outcome, error);
    }
    void discard(Request &request, stepscope_discard_reason why, std::uint32_t tokens) noexcept {
        stepscope_discard(raw(), request.raw(), why, tokens);
    }
    void spec(Request &request, std::uint32_t drafted, std::uint32_t accepted) noexcept {
        stepscope_spec(raw(), request.raw(), drafted, accepted);
    }
    void emitted(stepscope_stream &stream, Time at) noexcept { stepscope_emitted(raw(), &stream, at); }

    Step begin_step(Time at, stepscope_shape shape) noexcept {
        return Step(stepscope_begin_step(raw(), at, shape));
    }
    void launched(Step &step, stepscope_launch how = STEPSCOPE_LAUNCH_STAMP) noexcept {
        stepscope_step_launched(raw(), step.raw(), how);
    }
    void end_step(Step &step, Time at) noexcept { stepscope_end_step(raw(), step.raw(), at); }
    void abandon(Step step) noexcept { stepscope_step_abandon(raw(), step.raw()); }
    void token(const Step &step, Request &request, std::uint32_t accepted = 1) noexcept {
        stepscope_token(raw(), step.raw(), request.raw(), accepted);
    }
    /* The batch: `n` of the engine's own structs in a row, each with its request as a member. */
    template <class Sequence, class Base>
    void tokens(const Step &step, Sequence *first, std::size_t n, Request Base::*request,
                const std::uint32_t *accepted = nullptr) noexcept {
        stepscope_request *raw_first = first == nullptr ? nullptr : (first->*request).raw();
        stepscope_tokens(raw(), step.raw(), raw_first, sizeof(Sequence), accepted, n);
    }
    /* The batch as pointers to requests that lie anywhere. */
    void tokens_at(const Step &step, stepscope_request *const *each, std::size_t n,
                   const std::uint32_t *accepted = nullptr) noexcept {
        stepscope_tokens_at(raw(), step.raw(), each, accepted, n);
    }

    void queue(stepscope_wait_reason why, stepscope_priority priority, std::uint32_t waiting) noexcept {
        stepscope_queue(raw(), why, priority, waiting);
    }
    void kv(stepscope_pool pool, std::uint32_t referenced, std::uint32_t cached, std::uint32_t usable,
            std::uint32_t slots_used) noexcept {
        stepscope_kv(raw(), pool, referenced, cached, usable, slots_used);
    }
    /* Takes the lane over. */
    Status set_lane(Lane &&lane) noexcept { return stepscope_recorder_set_lane(raw(), lane.place()); }
    /* The next thread that calls a verb has the recorder. */
    Status let_go() noexcept { return stepscope_recorder_let_go(raw()); }
};

/* Telemetry of one worker. Its end waits up to 100 ms for a last scrape; shutdown says how long. */
class Scope : public Handle<stepscope_scope, stepscope_free> {
public:
    /* Empty if it failed; stepscope_last_error() says why. */
    static Scope start(const stepscope_config &config) noexcept {
        Scope scope;
        stepscope_start(&config, scope.fresh());
        return scope;
    }
    Status shutdown(std::uint32_t patience_ms) noexcept { return stepscope_shutdown(raw(), patience_ms); }

    Recorder recorder(const char *name, const char *gpu_id = nullptr, std::uint32_t ring_events = 0) const noexcept {
        Recorder recorder;
        stepscope_recorder_new(raw(), name, gpu_id, ring_events, recorder.fresh());
        return recorder;
    }
    Device device(const char *gpu_id) const noexcept {
        Device device;
        stepscope_device_new(raw(), gpu_id, device.fresh());
        return device;
    }
    Gpu gpu(void *stream, const stepscope_gpu_options *options = nullptr) const noexcept {
        Gpu gpu;
        stepscope_gpu_attach(raw(), stream, options, gpu.fresh());
        return gpu;
    }
    Snapshot snapshot() const noexcept {
        Snapshot snapshot;
        stepscope_snapshot_take(raw(), snapshot.fresh());
        return snapshot;
    }
    stepscope_series series(const char *endpoint, const char *priority = nullptr) const noexcept {
        stepscope_series series = {};
        stepscope_intern_series(raw(), endpoint, priority, &series);
        return series;
    }
    stepscope_priority priority(const char *name) const noexcept {
        stepscope_priority priority = {};
        stepscope_intern_priority(raw(), name, &priority);
        return priority;
    }
    stepscope_pool pool(const char *name) const noexcept {
        stepscope_pool pool = {};
        stepscope_intern_pool(raw(), name, &pool);
        return pool;
    }

    Status mark_ready() const noexcept { return stepscope_mark_ready(raw()); }
    Status mark_draining() const noexcept { return stepscope_mark_draining(raw()); }
    Status mark_failed() const noexcept { return stepscope_mark_failed(raw()); }
    Status advance(Time to) const noexcept { return stepscope_advance(raw(), to); }
    Status live() const noexcept { return stepscope_live(raw()); }
    Status ready() const noexcept { return stepscope_ready(raw()); }
    Status watch_device(const char *gpu_id, const char *which, const char *library = nullptr) const noexcept {
        return stepscope_watch_device(raw(), gpu_id, which, library);
    }
    /* 0 without a server. */
    std::uint16_t port() const noexcept {
        std::uint16_t port = 0;
        stepscope_port(raw(), &port);
        return port;
    }

    /* Calls write(data, length) with the body of /metrics; write must not throw. */
    template <class Write>
    Status metrics(Write &&write, const char *accept = nullptr, const char **content_type = nullptr) const noexcept {
        return stepscope_metrics_write(raw(), accept, content_type, &call<Write>, address(write));
    }
    /* The same with the JSON of /health. */
    template <class Write>
    Status health(Write &&write) const noexcept {
        return stepscope_health_write(raw(), &call<Write>, address(write));
    }

private:
    /* Of a callable, const or not; of a plain function, the address of what was handed over. */
    template <class Write>
    static void *address(Write &write) noexcept {
        if constexpr (std::is_function_v<Write>)
            return reinterpret_cast<void *>(&write);
        else
            return const_cast<void *>(static_cast<const void *>(std::addressof(write)));
    }
    template <class Write>
    static void call(void *user, const char *data, std::size_t length) noexcept {
        using Callable = std::remove_reference_t<Write>;
        if constexpr (std::is_function_v<Callable>)
            reinterpret_cast<Callable *>(user)(data, length);
        else
            (*static_cast<Callable *>(user))(data, length);
    }
};

} // namespace stepscope

#endif // STEPSCOPE_HPP
