/* Test-only entries: they call the device functions meant for an engine's kernels, so that the tests which interpret
 * PTX cover those too. Not shipped. Compiled to kernels/stamp_test.ptx by `cargo xtask regenerate`.
 */
#include "stepscope.cuh"

#if defined(__CUDACC__)
#define ENTRY extern "C" __global__ void
#else
#define ENTRY extern "C" __attribute__((global)) void
#endif

ENTRY stepscope_test_first_block(uint64_t ring, uint64_t cell, uint64_t byte) {
    stepscope::stamp_first_block({ring, cell}, stepscope_point(byte / STEPSCOPE_WORD_BYTES));
}

ENTRY stepscope_test_last_block(uint64_t ring, uint64_t cell, uint64_t byte, uint64_t done) {
    stepscope::stamp_last_block({ring, cell}, stepscope_point(byte / STEPSCOPE_WORD_BYTES), (unsigned int*)done);
}
