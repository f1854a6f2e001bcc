// SPDX-License-Identifier: BSD-3-Clause
// One block of an emulated kernel: its threads on fibers, its shared memory, and where they wait for each other.
//
// A thread runs until it must wait (barrier, shuffle, ballot, gpu_pause) or ends; then any other thread that may run is
// taken, by a generator with a seed. So a thread may be far ahead of its neighbours or far behind: what a kernel reads
// without a barrier is wrong sooner or later, and soon. Shared memory begins as 0xff (NaN as float and as bfloat16), and
// so does what a copy of gpu_copy16_begin will overwrite, until it is waited for.
// A thread that ends, or waits at another place, while others wait for it ends the process with a line on stderr.
//
// Threads that never wait run one after another on one fiber.
// Threads: all of it is the machine's thread (emulated_machine.h), which runs one block at a time.
#ifndef PR_KERNELS_GPU_EMULATED_BLOCK_H
#define PR_KERNELS_GPU_EMULATED_BLOCK_H

#include <stddef.h>
#include <stdint.h>

enum {
    PR_EMULATED_THREADS = 1024,   // most of a block
    PR_EMULATED_SLOT_BYTES = 64,  // what a lane can give to the others at once
    PR_EMULATED_COPIES = 256,     // most of a thread in flight
    PR_EMULATED_SHARED_BYTES =
        GPU_WARP == 64 ? 64 * 1024 : 99 * 1024,  // the least of what is compiled for
};

struct pr_emulated_fiber;
struct pr_emulated_block;
struct pr_emulated_meeting;
struct pr_emulated_copies;

// Where a kernel waits, as its author would look for it.
struct pr_emulated_site {
    const char *call, *file;
    int line;
};

struct pr_emulated_thread {
    int32_t thread, lane, warp;
    pr_emulated_block *block;
    pr_emulated_fiber *fiber;    // NULL: not begun
    pr_emulated_meeting *waits;  // NULL: it may run, pauses or has ended
    pr_emulated_site site;       // of `waits`
    bool ended;
    uint32_t exchanges;  // of its warp so far
    pr_emulated_copies *copies;
};

struct pr_emulated_grid {
    uint32_t blocks[3];
    uint32_t threads, shared_bytes;
};

// What kernels see of themselves. Fields of the block are read by emulated.h alone.
struct pr_emulated_block {
    uint32_t place[3];  // in the grid
    pr_emulated_grid grid;
    unsigned char *shared;
    struct pr_emulated_block_state *state;
};

extern pr_emulated_thread *pr_emulated_self;  // the thread that runs now

// ---- For kernels (through emulated.h) ----

void pr_emulated_block_barrier(pr_emulated_site site);
// Gives `bytes` to the other lanes of the warp; when all have, `meet` (unless NULL) is called once with the slots of all,
// and each lane gets them, valid until its next exchange but one.
unsigned char *pr_emulated_block_exchange(
    const void *mine, size_t bytes, void (*meet)(unsigned char *slots), pr_emulated_site site);
int pr_emulated_block_lanes(void);  // of this warp: the last one of a block may have fewer
bool pr_emulated_block_is_shared(const void *memory);
void pr_emulated_block_pause(void);
void pr_emulated_block_copy_begin(void *to, const void *from);
void pr_emulated_block_copy_commit(void);
void pr_emulated_block_copy_wait(uint32_t newest);
[[noreturn]] void pr_emulated_block_fail(const char *what, pr_emulated_site site);

// ---- For the machine ----

// A block that is ready to run; `call(closure)` is the kernel. NULL: no memory.
pr_emulated_block *pr_emulated_block_take(
    const pr_emulated_grid *grid,
    uint64_t number,
    uint64_t seed,
    void (*call)(const void *closure),
    const void *closure);
void pr_emulated_block_release(pr_emulated_block *block);
// Until all have ended (true) or those that have not wait for something outside (false).
bool pr_emulated_block_run(pr_emulated_block *block);
void pr_emulated_block_end(void);  // gives back what was kept for the next blocks

#endif
