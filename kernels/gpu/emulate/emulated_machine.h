// SPDX-License-Identifier: BSD-3-Clause
// The emulated GPU: streams of work and the thread that does it, as a GPU works beside its host.
//
// Work begins when someone waits for something, or a millisecond after it was put in: what reads a result without having
// waited reads the old one. Kernels of several streams, and all blocks of one launched together, take turns at every
// gpu_pause(), so they may wait for each other, for the host, or for another process (through emulated_memory.h).
// Ordinary kernels run block after block, in shuffled order.
//
// Threads: any; a stream is used by one at a time. A process that forks has no machine in the child, as with a GPU.
// Errors: emulated_error.h.
#ifndef PR_KERNELS_GPU_EMULATED_MACHINE_H
#define PR_KERNELS_GPU_EMULATED_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/emulate/emulated_block.h"
#include "kernels/gpu/gpu_stream.h"

enum {
    PR_EMULATED_CLOSURE_BYTES = 1024,
    PR_EMULATED_MULTIPROCESSORS = 4,
    PR_EMULATED_RESIDENT_THREADS = 2048,  // of one multiprocessor
};

typedef struct pr_gpu_event pr_gpu_event;
typedef struct pr_gpu_graph pr_gpu_graph;

pr_gpu_stream *pr_emulated_machine_stream_create(void);
void pr_emulated_machine_stream_destroy(pr_gpu_stream *stream);

// False: the device cannot hold all blocks `together` (no error), or no device can run such a launch.
bool pr_emulated_machine_launch(
    pr_gpu_stream *stream,
    const pr_emulated_grid *grid,
    bool together,
    void (*call)(const void *closure),
    const void *closure,
    size_t closure_bytes);
bool pr_emulated_machine_copy(void *to, const void *from, size_t size_bytes, pr_gpu_stream *stream);
bool pr_emulated_machine_fill(
    void *to, unsigned char byte, size_t size_bytes, pr_gpu_stream *stream);
bool pr_emulated_machine_wait(pr_gpu_stream *stream);  // NULL: for all streams
bool pr_emulated_machine_capturing(void);              // some stream is: no memory may be taken

pr_gpu_event *pr_emulated_machine_event_create(bool timed);
void pr_emulated_machine_event_destroy(pr_gpu_event *event);
bool pr_emulated_machine_event_record(pr_gpu_event *event, pr_gpu_stream *stream);
bool pr_emulated_machine_event_follow(pr_gpu_stream *stream, pr_gpu_event *event);
bool pr_emulated_machine_event_wait(pr_gpu_event *event);
float pr_emulated_machine_event_ms(pr_gpu_event *from, pr_gpu_event *to);

bool pr_emulated_machine_graph_begin(pr_gpu_stream *stream);
pr_gpu_graph *pr_emulated_machine_graph_end(pr_gpu_stream *stream);
bool pr_emulated_machine_graph_run(pr_gpu_graph *graph, pr_gpu_stream *stream);
void pr_emulated_machine_graph_destroy(pr_gpu_graph *graph);

// Another order of threads and blocks from the next kernel on.
void pr_emulated_machine_shuffle(uint64_t seed);

#endif
