/* Device header of stepscope: lets an engine's own kernels stamp the step they run in.
 *
 * Host code in C11 or C++17 sees plain types only. Device code, compiled by nvcc or by clang (with or without a CUDA
 * toolkit), also gets the three functions of namespace stepscope at the end. stepscope's own kernels, kernels/stamp.cu,
 * are thin entries over the same functions.
 *
 * How a stamp works
 *
 *   Each step of a lane (one stream) owns one slot of host memory, and each stamp stores one 64-bit word there: the
 *   GPU's nanosecond timer, tagged with the lap of the ring. The host picks the slot before the step is launched. It
 *   also leaves (lap, slot) in a cell of device memory, in stream order, so a kernel in a captured graph, whose
 *   arguments never change, reads the cell to learn which step it belongs to.
 *
 *   One store writes one whole word, so no order between words is needed: a stamp has no fence and no lock.
 *
 * Layout (little endian, offsets in bytes; `slots` is a power of two, N below)
 *
 *   Region, host memory, registered with the driver
 *   0x0000           magic: 0x5354455053434F50 alive, 0 in a forked child, other = detached  8
 *   0x0040 + 8*lane  unclaimed: stamps of the lane that found no armed step, GPU writes      8 each
 *   0x0400           scratch slot, for the self test                                        32
 *   0x0800           probe words {stamp, smallest timer step}                                2*8
 *   0x1000 + lane*N*32   ring of the lane                                                    N*32
 *
 *   Ring             +---------+---------+-- ... --+-----------+
 *                    | slot 0  | slot 1  |         | slot N-1  |      slot = step number & (N-1)
 *                    +---------+---------+-- ... --+-----------+
 *   Slot, 32 B       +-- 0 ----+-- 8 ----+-- 16 ---+-- 24 -----+
 *                    | Begin   | Mark A  | Mark B  | End       |      one word each, 0 = not stamped
 *                    +---------+---------+---------+-----------+
 *   Word, 64 bit      63      48 47                           0
 *                    +----------+-------------------------------+
 *                    |   lap    |  %globaltimer, low 48 bits    |     lap is 1..65535, so a stamp is never 0
 *                    +----------+-------------------------------+
 *   Cell, 64 B, device memory, one per lane and a scratch one at the end
 *                    +-- 0 ----+-- 8 -------+-- 16 -----------------+-- 24 .. 63 --+
 *                    | arm     | unclaimed  | address of the lane's |  0           |
 *                    |         | (counter)  | unclaimed word        |              |
 *                    +---------+------------+-----------------------+--------------+
 *   Arm, 64 bit      lap in bits 48..63, byte offset of the slot in its ring in bits 0..47; 0 = no step armed
 *
 * Rules for callers
 *
 *   1. Get the handle from the lane whose stream the kernel runs in. Launch it between the lane's begin and end.
 *   2. Pass the handle by value. {0, 0} switches stamping off: each function is then one branch.
 *   3. Stamp END once per step, where all the work of the step is joined. It disarms the cell.
 *   4. Under programmatic dependent launch, stamp only after griddepcontrol.wait.
 *   5. A kernel that stamped must not outlive the lane's memory: detach keeps the memory once a handle was given out.
 */
#ifndef STEPSCOPE_CUH
#define STEPSCOPE_CUH

#include <stdint.h>

/* What a kernel needs to find its step. 16 bytes of plain data. */
typedef struct stepscope_handle {
    uint64_t ring; /* device address of the lane's ring; 0 = off */
    uint64_t cell; /* device address of the lane's cell */
} stepscope_handle;

/* Which word of the slot a stamp writes. */
typedef enum stepscope_point {
    STEPSCOPE_BEGIN = 0,
    STEPSCOPE_MARK_A = 1,
    STEPSCOPE_MARK_B = 2,
    STEPSCOPE_END = 3
} stepscope_point;

/* The layout above, as numbers. */
enum {
    STEPSCOPE_WORD_BYTES = 8,
    STEPSCOPE_SLOT_BYTES = 32,
    STEPSCOPE_TIME_BITS = 48,
    STEPSCOPE_REGION_MAGIC_AT = 0x0,
    STEPSCOPE_REGION_UNCLAIMED_AT = 0x40,
    STEPSCOPE_REGION_SCRATCH_AT = 0x400,
    STEPSCOPE_REGION_PROBE_AT = 0x800,
    STEPSCOPE_REGION_RINGS_AT = 0x1000,
    STEPSCOPE_CELL_BYTES = 64,
    STEPSCOPE_CELL_ARM_AT = 0,
    STEPSCOPE_CELL_UNCLAIMED_AT = 8,
    STEPSCOPE_CELL_UNCLAIMED_ADDRESS_AT = 16
};

#ifdef __cplusplus
static_assert(sizeof(stepscope_handle) == 16, "the handle is passed by value: two words");
static_assert(STEPSCOPE_SLOT_BYTES == (STEPSCOPE_END + 1) * STEPSCOPE_WORD_BYTES, "one word per point");
#else
_Static_assert(sizeof(stepscope_handle) == 16, "the handle is passed by value: two words");
_Static_assert(STEPSCOPE_SLOT_BYTES == (STEPSCOPE_END + 1) * STEPSCOPE_WORD_BYTES, "one word per point");
#endif

/* ---- device side ------------------------------------------------------------------------------------------------ */

#if defined(__CUDACC__) || defined(__CUDA__)

/* clang compiles CUDA without a toolkit (-nocudainc), but then nothing has declared the language's own words. These
 * few stand in for them; with a CUDA header in front, none is used. */
#if defined(__CUDACC__) || defined(__CUDA_RUNTIME_H__)
#define STEPSCOPE_DEVICE __device__ __forceinline__
#define STEPSCOPE_INDEX_IS_ZERO(index) (((index).x | (index).y | (index).z) == 0)
#define STEPSCOPE_BLOCKS (gridDim.x * gridDim.y * gridDim.z)
#define STEPSCOPE_FENCE_GPU() __threadfence()
#define STEPSCOPE_BARRIER() __syncthreads()
#define STEPSCOPE_ATOMIC_INC(address, limit) atomicInc((address), (limit))
#define STEPSCOPE_THREAD_IS_FIRST STEPSCOPE_INDEX_IS_ZERO(threadIdx)
#define STEPSCOPE_BLOCK_IS_FIRST STEPSCOPE_INDEX_IS_ZERO(blockIdx)
#else
#define STEPSCOPE_DEVICE __attribute__((device)) __attribute__((always_inline)) inline
#define STEPSCOPE_SREG(name) ((unsigned int)__nvvm_read_ptx_sreg_##name())
#define STEPSCOPE_BLOCKS (STEPSCOPE_SREG(nctaid_x) * STEPSCOPE_SREG(nctaid_y) * STEPSCOPE_SREG(nctaid_z))
#define STEPSCOPE_FENCE_GPU() __nvvm_membar_gl()
#define STEPSCOPE_BARRIER() __syncthreads()
#define STEPSCOPE_ATOMIC_INC(address, limit) __nvvm_atom_inc_gen_ui((address), (limit))
#define STEPSCOPE_THREAD_IS_FIRST ((STEPSCOPE_SREG(tid_x) | STEPSCOPE_SREG(tid_y) | STEPSCOPE_SREG(tid_z)) == 0)
#define STEPSCOPE_BLOCK_IS_FIRST ((STEPSCOPE_SREG(ctaid_x) | STEPSCOPE_SREG(ctaid_y) | STEPSCOPE_SREG(ctaid_z)) == 0)
#endif

namespace stepscope {

namespace detail {

constexpr uint64_t time_mask = (uint64_t(1) << STEPSCOPE_TIME_BITS) - 1;

/* volatile, so that two reads stay two reads and keep their place among the loads and stores below. */
STEPSCOPE_DEVICE uint64_t timer_ns() {
    uint64_t now_ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now_ns)::"memory");
    return now_ns;
}

/* Words are read by the host: one whole store, system scope, no fence. */
STEPSCOPE_DEVICE void store_word(uint64_t address, uint64_t value) {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

/* Cells are read by later kernels of this GPU only. */
STEPSCOPE_DEVICE void store_cell(uint64_t address, uint64_t value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

STEPSCOPE_DEVICE uint64_t load_cell(uint64_t address) {
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return value;
}

STEPSCOPE_DEVICE uint64_t count_one(uint64_t address) {
    uint64_t before;
    asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], 1;" : "=l"(before) : "l"(address) : "memory");
    return before + 1;
}

STEPSCOPE_DEVICE uint64_t tagged(uint64_t tag, uint64_t time_ns) { return tag | (time_ns & time_mask); }

/* Stamps the word at byte offset `byte` of the step that the cell names. No step armed: nothing to stamp, count it.
 * The timer is read first, so the time does not contain the wait for the cell. */
STEPSCOPE_DEVICE void stamp_armed(uint64_t ring, uint64_t cell, uint64_t byte, bool disarm) {
    const uint64_t now_ns = timer_ns();
    const uint64_t arm = load_cell(cell + STEPSCOPE_CELL_ARM_AT);
    if (arm == 0) {
        const uint64_t unclaimed = count_one(cell + STEPSCOPE_CELL_UNCLAIMED_AT);
        store_word(load_cell(cell + STEPSCOPE_CELL_UNCLAIMED_ADDRESS_AT), unclaimed);
        return;
    }
    if (disarm) store_cell(cell + STEPSCOPE_CELL_ARM_AT, 0);
    store_word(ring + (arm & time_mask) + byte, tagged(arm & ~time_mask, now_ns));
}

} /* namespace detail */

/* Stamps `point` of the armed step. Exactly one thread of the grid calls it. */
STEPSCOPE_DEVICE void stamp(stepscope_handle handle, stepscope_point point) {
    if (handle.ring == 0) return;
    const uint64_t byte = uint64_t(point) * STEPSCOPE_WORD_BYTES;
    detail::stamp_armed(handle.ring, handle.cell, byte, point == STEPSCOPE_END);
}

/* Stamps when block 0 starts, which is not always the grid's first. All threads may call it, at the kernel's entry. */
STEPSCOPE_DEVICE void stamp_first_block(stepscope_handle handle, stepscope_point point) {
    if (STEPSCOPE_BLOCK_IS_FIRST && STEPSCOPE_THREAD_IS_FIRST) stamp(handle, point);
}

/* Stamps when the last block has finished its work. All threads of all blocks must reach it, as the last statement.
 * `done`: a word of device memory, zero at first, one per kernel node that may be running at a time. The last block
 * wraps it to zero again, so a graph can be replayed. Costs one fence per thread and one atomic per block. */
STEPSCOPE_DEVICE void stamp_last_block(stepscope_handle handle, stepscope_point point, unsigned int* done) {
    if (handle.ring == 0) return;
    STEPSCOPE_FENCE_GPU();
    STEPSCOPE_BARRIER();
    if (STEPSCOPE_THREAD_IS_FIRST) {
        const unsigned int last = STEPSCOPE_BLOCKS - 1;
        if (STEPSCOPE_ATOMIC_INC(done, last) == last) stamp(handle, point);
    }
}

} /* namespace stepscope */

#undef STEPSCOPE_DEVICE
#undef STEPSCOPE_INDEX_IS_ZERO
#undef STEPSCOPE_SREG
#undef STEPSCOPE_BLOCKS
#undef STEPSCOPE_FENCE_GPU
#undef STEPSCOPE_BARRIER
#undef STEPSCOPE_ATOMIC_INC
#undef STEPSCOPE_THREAD_IS_FIRST
#undef STEPSCOPE_BLOCK_IS_FIRST

#endif /* device side */

#endif /* STEPSCOPE_CUH */
