/* The stamp kernels that stepscope launches itself: thin entries over stepscope.cuh, one thread each.
 *
 * Compiled to kernels/stamp.ptx, which is checked in, so that nobody needs a compiler: `cargo xtask regenerate`.
 * All parameters are 64 bit. The order of the reads and stores is part of the contract; do not tidy it.
 */
#include "stepscope.cuh"

#if defined(__CUDACC__)
#define ENTRY extern "C" __global__ void
#else
#define ENTRY extern "C" __attribute__((global)) void
#endif

using namespace stepscope::detail;

/* Stamps *word, then arms the cell: captured stamps behind this one belong to the step. */
ENTRY stepscope_begin(uint64_t word, uint64_t tag, uint64_t cell, uint64_t arm) {
    const uint64_t now_ns = timer_ns();
    store_word(word, tagged(tag, now_ns));
    store_cell(cell, arm);
}

/* Disarms the cell, then stamps *word. */
ENTRY stepscope_end(uint64_t word, uint64_t tag, uint64_t cell) {
    store_cell(cell, 0);
    const uint64_t now_ns = timer_ns();
    store_word(word, tagged(tag, now_ns));
}

/* The captured stamp: takes the step from the cell. `byte` picks the word of the slot; `last` != 0 disarms. */
ENTRY stepscope_mark(uint64_t ring, uint64_t cell, uint64_t byte, uint64_t last) {
    stamp_armed(ring, cell, byte, last != 0);
}

/* Clock probe: reads the timer `spins` times and stores the smallest step seen in word[1] (all ones in 48 bits: none
 * seen), then stamps word[0], last, as the host waits for that one. */
ENTRY stepscope_probe(uint64_t word, uint64_t tag, uint64_t spins) {
    uint64_t smallest_ns = time_mask;
    uint64_t before_ns = timer_ns();
    for (uint64_t spin = 0; spin < spins; ++spin) {
        const uint64_t now_ns = timer_ns();
        const uint64_t step_ns = now_ns - before_ns;
        if (step_ns != 0 && step_ns < smallest_ns) smallest_ns = step_ns;
        before_ns = now_ns;
    }
    store_word(word + STEPSCOPE_WORD_BYTES, tagged(tag, smallest_ns));
    store_word(word, tagged(tag, timer_ns()));
}
