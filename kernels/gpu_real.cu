/* What the measuring program gpu-real runs in place of an engine's work. Not shipped in the library.
 *
 * Compiled to kernels/gpu_real.ptx by `cargo xtask regenerate`. All parameters are 64 bit.
 */
#include "stepscope.cuh"

#if defined(__CUDACC__)
#define ENTRY extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define BLOCK_INDEX blockIdx.x
#define THREAD_INDEX threadIdx.x
#else
#define ENTRY extern "C" __attribute__((global)) void
#define DEVICE __attribute__((device)) __attribute__((always_inline)) inline
#define BLOCK_INDEX ((unsigned int)__nvvm_read_ptx_sreg_ctaid_x())
#define THREAD_INDEX ((unsigned int)__nvvm_read_ptx_sreg_tid_x())
#endif

using namespace stepscope::detail;

/* Returns the timer's value once `length_ns` have passed since `begin_ns`. */
DEVICE uint64_t spin_until(uint64_t begin_ns, uint64_t length_ns) {
    uint64_t now_ns = timer_ns();
    while (now_ns - begin_ns < length_ns) now_ns = timer_ns();
    return now_ns;
}

/* Busy for `length_ns`; with as many blocks and threads as fit, it saturates the device. */
ENTRY gpu_real_spin(uint64_t length_ns) { spin_until(timer_ns(), length_ns); }

/* The least that a node of a graph can do. */
ENTRY gpu_real_small(uint64_t word) { store_cell(word, 1); }

/* The truth of a step: works for `length_ns` and writes down when. The pairs lie in a ring of mask + 1 in host memory;
 * *counter says which is next. One thread. */
ENTRY gpu_real_truth(uint64_t ring, uint64_t counter, uint64_t mask, uint64_t length_ns) {
    const uint64_t begin_ns = timer_ns();
    const uint64_t run = load_cell(counter);
    const uint64_t pair = ring + (run & mask) * 16;
    store_word(pair, begin_ns);
    store_cell(counter, run + 1);
    spin_until(begin_ns, length_ns);
    store_word(pair + 8, timer_ns());
}

/* How the timer moves: for `length_ns`, counts every nonzero step between two readings in buckets[min(step, last)].
 * One thread. */
ENTRY gpu_real_steps(uint64_t buckets, uint64_t last, uint64_t length_ns) {
    const uint64_t begin_ns = timer_ns();
    uint64_t before_ns = begin_ns;
    while (before_ns - begin_ns < length_ns) {
        const uint64_t now_ns = timer_ns();
        const uint64_t step_ns = now_ns - before_ns;
        if (step_ns != 0) {
            const uint64_t bucket = buckets + (step_ns < last ? step_ns : last) * 8;
            store_cell(bucket, load_cell(bucket) + 1);
            before_ns = timer_ns(); /* the wait for memory is no step of the timer */
        }
    }
}

/* Blocks that stamp by the device header: mark A where block 0 starts, mark B where the last block has finished. Thread
 * 0 of each block writes {first reading, reading after the first stamp, last reading} to truth[3 * block]. */
ENTRY gpu_real_blocks(uint64_t stamps, uint64_t cell, uint64_t truth, uint64_t done, uint64_t length_ns) {
    const uint64_t begin_ns = timer_ns();
    const stepscope_handle handle = {stamps, cell};
    stepscope::stamp_first_block(handle, STEPSCOPE_MARK_A);
    const uint64_t stamped_ns = timer_ns();
    spin_until(stamped_ns, length_ns); /* behind the stamp, or it would hide what the stamp costs */
    if (THREAD_INDEX == 0 && truth != 0) {
        const uint64_t mine = truth + uint64_t(BLOCK_INDEX) * 24;
        store_cell(mine, begin_ns);
        store_cell(mine + 8, stamped_ns);
        store_cell(mine + 16, timer_ns());
    }
    stepscope::stamp_last_block(handle, STEPSCOPE_MARK_B, (unsigned int*)done);
}

/* A fault: stores where nothing is. */
ENTRY gpu_real_fault(uint64_t nowhere) { store_word(nowhere, 1); }
