/* The kernels of `stepscope demo` on a real GPU: they take the time that a model's step would take, and write down
 * when that was, so that what the stamps say can be judged. Not part of the library.
 *
 * Compiled to kernels/demo.ptx by `cargo xtask regenerate`. One thread each; all parameters are 64 bit.
 */
#include "stepscope.cuh"

#if defined(__CUDACC__)
#define ENTRY extern "C" __global__ void
#else
#define ENTRY extern "C" __attribute__((global)) void
#endif

using namespace stepscope::detail;

/* The host writes it before each launch, also of a graph, whose arguments never change. */
static inline __attribute__((device)) uint64_t load_host(uint64_t address) {
    uint64_t value;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return value;
}

/* *place = the time. In front of the begin stamp and behind the end stamp of a step. */
ENTRY demo_note(uint64_t place) { store_word(place, timer_ns()); }

/* Spins for *order nanoseconds; place[0] = begin, place[1] = end. */
ENTRY demo_work(uint64_t order, uint64_t place) {
    const uint64_t begin_ns = timer_ns();
    const uint64_t wanted_ns = load_host(order);
    uint64_t end_ns;
    do {
        end_ns = timer_ns();
    } while (end_ns - begin_ns < wanted_ns);
    store_word(place, begin_ns);
    store_word(place + STEPSCOPE_WORD_BYTES, end_ns);
}
