// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096 };  // frames are larger there
#else
enum { STACK_BYTES = 64 * 1024, GUARD_BYTES = 4096 };
#endif

struct pr_emulated_fiber {
    void *stack;  // lowest address; NULL: the thread's own
    void *bottom;
    size_t bytes;
    void (*body)(pr_emulated_fiber *fiber);
    void *user;
#if defined(__x86_64__)
    void *top;  // where it stopped
#else
    ucontext_t context;
#endif
    void *fake_stack, *race_state;  // of the address and the thread sanitizer
};

static pr_emulated_fiber *starting;  // the fiber that is gone to for the first time

static void arrive(pr_emulated_fiber *fiber)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber->fake_stack, NULL, NULL);
#endif
    (void)fiber;
}

static void begin(void)
{
    pr_emulated_fiber *fiber = starting;
    arrive(fiber);
    fiber->body(fiber);
    abort();
}

#if defined(__x86_64__)
extern "C" void pr_emulated_fiber_swap(void **from, void *to);
asm(R"(
    .text
    .p2align 4
    .hidden pr_emulated_fiber_swap
    .globl pr_emulated_fiber_swap
    .type pr_emulated_fiber_swap, @function
pr_emulated_fiber_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size pr_emulated_fiber_swap, .-pr_emulated_fiber_swap
)");

static void prepare(pr_emulated_fiber *fiber)
{
    enum { KEPT = 6 };
    uintptr_t *top = (uintptr_t *)((unsigned char *)fiber->bottom + fiber->bytes);
    *--top = 0;  // the first frame has nowhere to return to
    *--top = (uintptr_t)begin;
    for (int i = 0; i < KEPT; i++)
        *--top = 0;
    fiber->top = top;
}

static void swap(pr_emulated_fiber *from, pr_emulated_fiber *to)
{
    pr_emulated_fiber_swap(&from->top, to->top);
}
#else
static void prepare(pr_emulated_fiber *fiber)
{
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->bottom;
    fiber->context.uc_stack.ss_size = fiber->bytes;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, begin, 0);
}

static void swap(pr_emulated_fiber *from, pr_emulated_fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

pr_emulated_fiber *pr_emulated_fiber_of_thread(void)
{
    pr_emulated_fiber *fiber = (pr_emulated_fiber *)calloc(1, sizeof(*fiber));
    if (!fiber)
        return NULL;
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &fiber->bottom, &fiber->bytes);
        pthread_attr_destroy(&attributes);
    }
#if defined(__SANITIZE_THREAD__)
    fiber->race_state = __tsan_get_current_fiber();
#endif
    return fiber;
}

pr_emulated_fiber *pr_emulated_fiber_create(void (*body)(pr_emulated_fiber *fiber))
{
    pr_emulated_fiber *fiber = (pr_emulated_fiber *)calloc(1, sizeof(*fiber));
    if (!fiber)
        return NULL;
    void *stack = mmap(
        NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        free(fiber);
        return NULL;
    }
    (void)mprotect(stack, GUARD_BYTES, PROT_NONE);
    fiber->stack = stack;
    fiber->bottom = (unsigned char *)stack + GUARD_BYTES;
    fiber->bytes = STACK_BYTES;
    fiber->body = body;
    prepare(fiber);
#if defined(__SANITIZE_THREAD__)
    fiber->race_state = __tsan_create_fiber(0);
#endif
    return fiber;
}

void pr_emulated_fiber_destroy(pr_emulated_fiber *fiber)
{
    if (!fiber)
        return;
    if (fiber->stack) {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(fiber->bottom, fiber->bytes);
#endif
#if defined(__SANITIZE_THREAD__)
        __tsan_destroy_fiber(fiber->race_state);
#endif
        munmap(fiber->stack, GUARD_BYTES + STACK_BYTES);
    }
    free(fiber);
}

void pr_emulated_fiber_switch(pr_emulated_fiber *from, pr_emulated_fiber *to)
{
    starting = to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to->race_state, 0);
#endif
    swap(from, to);
    arrive(from);
}

void **pr_emulated_fiber_user(pr_emulated_fiber *fiber) { return &fiber->user; }
