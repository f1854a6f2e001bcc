// SPDX-License-Identifier: BSD-3-Clause
// What the streams of the emulated GPU hold: pieces of work in a list. Shared by the files of the machine alone.
#ifndef PR_KERNELS_GPU_EMULATED_WORK_H
#define PR_KERNELS_GPU_EMULATED_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/emulate/emulated_kernel.h"
#include "kernels/gpu/emulate/emulated_machine.h"

enum pr_emulated_work_kind {
    PR_EMULATED_KERNEL,
    PR_EMULATED_COPY,
    PR_EMULATED_FILL,
    PR_EMULATED_RECORD,
    PR_EMULATED_FOLLOW,
    PR_EMULATED_GRAPH,
};

struct pr_emulated_work {
    pr_emulated_work *next;
    pr_emulated_work_kind kind;
    union {
        pr_emulated_kernel kernel;
        struct {
            void *to;
            const void *from;
            size_t size_bytes;
            unsigned char byte;
        } bytes;
        struct {
            pr_gpu_event *event;
            uint64_t number;  // of the record that is made or followed
        } event;
        pr_gpu_graph *graph;
    };
    alignas(16) unsigned char closure[PR_EMULATED_CLOSURE_BYTES];
};

struct pr_emulated_list {
    pr_emulated_work *first, *last;
};

struct pr_gpu_stream {
    pr_gpu_stream *next;  // of the machine
    pr_emulated_list queue;
    pr_emulated_work
        *graph_step;  // the next of the graph that is first in the queue; NULL: its end or no graph
    bool in_graph;
    uint64_t launches;
    pr_emulated_run run;
    pr_gpu_graph *capture;  // what is put in goes there; NULL: it is done
};

struct pr_gpu_event {
    bool timed;
    uint64_t asked, done;  // records so far
    uint64_t done_ns;
    pr_gpu_graph *capture;  // the last record went into it
};

struct pr_gpu_graph {
    pr_emulated_list list;
    uint32_t queued;  // runs that are not done
    bool broken;
    const char *why;
    pr_gpu_stream *origin;
};

#endif
