// SPDX-License-Identifier: BSD-3-Clause
// A second stack and what is needed to go to it and come back: one thread of an emulated block runs on each.
//
// Source: ours; the System V ABI for x86-64 says which registers a call keeps. Elsewhere by ucontext.
// Cost: a switch is some 10 ns on x86-64, a few hundred with ucontext; a fiber takes 64 KiB of addresses.
// Threads: fibers belong to the thread that runs them.
#ifndef PR_KERNELS_GPU_EMULATED_FIBER_H
#define PR_KERNELS_GPU_EMULATED_FIBER_H

#include <stddef.h>

struct pr_emulated_fiber;

// The stack that the calling thread has already, to go back to.
pr_emulated_fiber *pr_emulated_fiber_of_thread(void);
// Body is called with the fiber when it is first gone to, and must not return. NULL: no memory.
pr_emulated_fiber *pr_emulated_fiber_create(void (*body)(pr_emulated_fiber *fiber));
// Of one that does not run: what is on its stack is forgotten.
void pr_emulated_fiber_destroy(pr_emulated_fiber *fiber);
// Returns when someone goes to `from` again.
void pr_emulated_fiber_switch(pr_emulated_fiber *from, pr_emulated_fiber *to);

// Whatever its user wants to keep with a fiber.
void **pr_emulated_fiber_user(pr_emulated_fiber *fiber);

#endif
