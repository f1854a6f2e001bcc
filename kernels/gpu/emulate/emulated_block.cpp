// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/gpu/emulate/emulated_fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

enum { WARPS = PR_EMULATED_THREADS / GPU_WARP, PAGE_BYTES = 4096, SHARED_ALIGN = 128 };
enum { SHARED_PAGES = (PR_EMULATED_SHARED_BYTES + PAGE_BYTES - 1) / PAGE_BYTES + 1 };

// Where threads wait until all of them are there.
struct pr_emulated_meeting {
    int32_t arrived, first, count;  // threads [first, first + count) of the block
    pr_emulated_site site;
};

struct pending_copy {
    void *to;
    const void *from;
    uint32_t commit;
};

struct pr_emulated_copies {
    uint32_t count, commits;
    pending_copy copy[PR_EMULATED_COPIES];
};

struct pr_emulated_block_state {
    pr_emulated_block block;  // first: what kernels see
    pr_emulated_block_state *next;
    uint64_t random;
    void (*call)(const void *closure);
    const void *closure;
    unsigned char *pages;  // shared memory, a page that must not be touched behind
    int32_t ready_count, paused_count, ended_count;
    int16_t ready[PR_EMULATED_THREADS], paused[PR_EMULATED_THREADS];
    pr_emulated_meeting all, warp[WARPS];
    alignas(16) unsigned char slots[WARPS][2][GPU_WARP * PR_EMULATED_SLOT_BYTES];
    pr_emulated_thread thread[PR_EMULATED_THREADS];
};

pr_emulated_thread *pr_emulated_self;

static pr_emulated_block_state *free_blocks;
static pr_emulated_fiber *main_fiber, **free_fibers;
static size_t free_fiber_count, fiber_count, fiber_room;

// ---- What goes wrong ----

static void say_thread(const pr_emulated_thread *thread)
{
    const pr_emulated_block *block = thread->block;
    fprintf(
        stderr, "gpu emulation: block (%u, %u, %u), thread %d: ", block->place[0], block->place[1],
        block->place[2], thread->thread);
}

[[noreturn]] void pr_emulated_block_fail(const char *what, pr_emulated_site site)
{
    say_thread(pr_emulated_self);
    fprintf(stderr, "%s at %s:%d: %s\n", site.call, site.file, site.line, what);
    abort();
}

[[noreturn]] static void no_memory(void)
{
    fprintf(stderr, "gpu emulation: no memory for the threads of a block; give the process more\n");
    abort();
}

// Of a block in which nobody can run: some wait where one will never come.
[[noreturn]] static void stuck(pr_emulated_block_state *s)
{
    const pr_emulated_meeting *meeting = &s->all;
    for (int32_t w = 0; w < WARPS; w++)
        if (s->warp[w].arrived > 0)
            meeting = &s->warp[w];
    for (int32_t i = meeting->first; i < meeting->first + meeting->count; i++) {
        const pr_emulated_thread *thread = &s->thread[i];
        if (thread->waits == meeting)
            continue;
        say_thread(thread);
        if (thread->waits)
            fprintf(
                stderr, "waits in %s at %s:%d", thread->site.call, thread->site.file,
                thread->site.line);
        else
            fprintf(stderr, "has ended");
        fprintf(
            stderr, ", while %d others wait for it in %s at %s:%d\n", meeting->arrived,
            meeting->site.call, meeting->site.file, meeting->site.line);
        break;
    }
    abort();
}

// ---- Who runs next ----

static uint32_t draw(pr_emulated_block_state *s, uint32_t bound)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((s->random >> 32) * bound >> 32);
}

static pr_emulated_thread *pick(pr_emulated_block_state *s)
{
    if (s->ready_count == 0)
        return NULL;
    uint32_t at = draw(s, (uint32_t)s->ready_count);
    int16_t index = s->ready[at];
    s->ready[at] = s->ready[--s->ready_count];
    return &s->thread[index];
}

static void run_threads(pr_emulated_fiber *fiber);

static pr_emulated_fiber *take_fiber(void)
{
    if (free_fiber_count > 0)
        return free_fibers[--free_fiber_count];
    if (fiber_count == fiber_room) {
        fiber_room = 2 * fiber_room + PR_EMULATED_THREADS;
        free_fibers = (pr_emulated_fiber **)realloc(free_fibers, fiber_room * sizeof(*free_fibers));
        if (!free_fibers)
            no_memory();
    }
    pr_emulated_fiber *fiber = pr_emulated_fiber_create(run_threads);
    if (!fiber)
        no_memory();
    fiber_count++;
    return fiber;
}

// From `fiber` to the fiber of a thread, or to the machine if there is none that may run.
static void go(pr_emulated_fiber *fiber, pr_emulated_thread *thread)
{
    pr_emulated_self = thread;
    if (!thread) {
        pr_emulated_fiber_switch(fiber, main_fiber);
        return;
    }
    if (!thread->fiber) {
        thread->fiber = take_fiber();
        *pr_emulated_fiber_user(thread->fiber) = thread;
    }
    pr_emulated_fiber_switch(fiber, thread->fiber);
}

// The body of a fiber: a thread to its end, then the next one that has not begun.
static void run_threads(pr_emulated_fiber *fiber)
{
    for (;;) {
        pr_emulated_thread *thread = (pr_emulated_thread *)*pr_emulated_fiber_user(fiber);
        pr_emulated_block_state *s = thread->block->state;
        s->call(s->closure);
        thread->ended = true;
        thread->fiber = NULL;
        s->ended_count++;
        pr_emulated_thread *next = pick(s);
        if (next && !next->fiber) {
            next->fiber = fiber;
            *pr_emulated_fiber_user(fiber) = next;
            pr_emulated_self = next;
            continue;
        }
        free_fibers[free_fiber_count++] = fiber;
        go(fiber, next);
    }
}

// The running thread gives way, to itself if it is picked.
static void give_way(pr_emulated_thread *self)
{
    pr_emulated_thread *next = pick(self->block->state);
    if (next != self)
        go(self->fiber, next);
}

// ---- Together ----

static void meet(
    pr_emulated_meeting *meeting,
    pr_emulated_site site,
    void (*last)(unsigned char *),
    unsigned char *slots)
{
    pr_emulated_thread *self = pr_emulated_self;
    pr_emulated_block_state *s = self->block->state;
    if (meeting->arrived == 0)
        meeting->site = site;
    else if (meeting->site.line != site.line || meeting->site.file != site.file) {
        say_thread(self);
        fprintf(
            stderr, "comes to %s at %s:%d, while %d others wait for it in %s at %s:%d\n", site.call,
            site.file, site.line, meeting->arrived, meeting->site.call, meeting->site.file,
            meeting->site.line);
        abort();
    }
    self->waits = meeting;
    self->site = site;
    if (++meeting->arrived == meeting->count) {
        if (last)
            last(slots);
        meeting->arrived = 0;
        for (int32_t i = meeting->first; i < meeting->first + meeting->count; i++) {
            s->thread[i].waits = NULL;
            s->ready[s->ready_count++] = (int16_t)i;
        }
    }
    give_way(self);
}

void pr_emulated_block_barrier(pr_emulated_site site)
{
    meet(&pr_emulated_self->block->state->all, site, NULL, NULL);
}

unsigned char *pr_emulated_block_exchange(
    const void *mine, size_t bytes, void (*last)(unsigned char *slots), pr_emulated_site site)
{
    pr_emulated_thread *self = pr_emulated_self;
    pr_emulated_block_state *s = self->block->state;
    unsigned char *slots = s->slots[self->warp][self->exchanges++ & 1];
    if (bytes > 0)
        memcpy(slots + (size_t)self->lane * PR_EMULATED_SLOT_BYTES, mine, bytes);
    meet(&s->warp[self->warp], site, last, slots);
    return slots;
}

int pr_emulated_block_lanes(void)
{
    return pr_emulated_self->block->state->warp[pr_emulated_self->warp].count;
}

bool pr_emulated_block_is_shared(const void *memory)
{
    const pr_emulated_block *block = pr_emulated_self->block;
    const unsigned char *byte = (const unsigned char *)memory;
    return byte >= block->shared && byte < block->shared + block->grid.shared_bytes;
}

void pr_emulated_block_pause(void)
{
    pr_emulated_thread *self = pr_emulated_self;
    pr_emulated_block_state *s = self->block->state;
    s->paused[s->paused_count++] = (int16_t)self->thread;
    give_way(self);
}

// ---- Copies in flight ----

void pr_emulated_block_copy_begin(void *to, const void *from)
{
    enum { BYTES = 16 };
    const pr_emulated_site site = {"gpu_copy16_begin", "the kernel", 0};
    pr_emulated_thread *self = pr_emulated_self;
    if (!self->copies)
        self->copies = (pr_emulated_copies *)calloc(1, sizeof(*self->copies));
    pr_emulated_copies *copies = self->copies;
    if (!copies)
        no_memory();
    if (copies->count == PR_EMULATED_COPIES)
        pr_emulated_block_fail("more than 256 copies of one thread in flight", site);
    if (((uintptr_t)to | (uintptr_t)from) % BYTES != 0)
        pr_emulated_block_fail("an address is not a multiple of 16", site);
    if (!pr_emulated_block_is_shared(to))
        pr_emulated_block_fail("a copy goes to shared memory only", site);
    memset(to, 0xff, BYTES);
    copies->copy[copies->count++] = {to, from, copies->commits};
}

void pr_emulated_block_copy_commit(void)
{
    if (pr_emulated_self->copies)
        pr_emulated_self->copies->commits++;
}

void pr_emulated_block_copy_wait(uint32_t newest)
{
    pr_emulated_copies *copies = pr_emulated_self->copies;
    if (!copies)
        return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < copies->count; i++) {
        const pending_copy *copy = &copies->copy[i];
        if (copy->commit + newest < copies->commits)
            memcpy(copy->to, copy->from, 16);
        else
            copies->copy[kept++] = *copy;
    }
    copies->count = kept;
}

// ---- For the machine ----

static pr_emulated_block_state *new_block(void)
{
    pr_emulated_block_state *s = (pr_emulated_block_state *)calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    void *pages = mmap(
        NULL, (size_t)SHARED_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        free(s);
        return NULL;
    }
    s->pages = (unsigned char *)pages;
    (void)mprotect(s->pages + (size_t)(SHARED_PAGES - 1) * PAGE_BYTES, PAGE_BYTES, PROT_NONE);
    s->block.state = s;
    return s;
}

// Shared memory ends where its pages end, but for alignment.
static void lay_out_shared(pr_emulated_block_state *s, uint32_t bytes)
{
    size_t room = (size_t)(SHARED_PAGES - 1) * PAGE_BYTES;
    size_t used = ((size_t)bytes + SHARED_ALIGN - 1) / SHARED_ALIGN * SHARED_ALIGN;
    s->block.shared = s->pages + room - used;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(s->pages, room);
    __asan_poison_memory_region(s->pages, room - used);
    __asan_poison_memory_region(s->block.shared + bytes, used - bytes);
#endif
    memset(s->block.shared, 0xff, bytes);
}

static void lay_out_threads(pr_emulated_block_state *s, int32_t threads)
{
    s->all = {0, 0, threads, {}};
    for (int32_t w = 0; w * GPU_WARP < threads; w++) {
        int32_t left = threads - w * GPU_WARP;
        s->warp[w] = {0, w * GPU_WARP, left < GPU_WARP ? left : GPU_WARP, {}};
    }
    for (int32_t i = 0; i < threads; i++) {
        pr_emulated_thread *thread = &s->thread[i];
        pr_emulated_copies *copies = thread->copies;
        *thread = {i, i % GPU_WARP, i / GPU_WARP, &s->block, NULL, NULL, {}, false, 0, copies};
        if (copies)
            copies->count = copies->commits = 0;
        s->ready[i] = (int16_t)i;
    }
    s->ready_count = threads;
    s->paused_count = s->ended_count = 0;
}

pr_emulated_block *pr_emulated_block_take(
    const pr_emulated_grid *grid,
    uint64_t number,
    uint64_t seed,
    void (*call)(const void *closure),
    const void *closure)
{
    pr_emulated_block_state *s = free_blocks;
    if (s)
        free_blocks = s->next;
    else
        s = new_block();
    if (!s)
        return NULL;
    s->block.grid = *grid;
    s->block.place[0] = (uint32_t)(number % grid->blocks[0]);
    s->block.place[1] = (uint32_t)(number / grid->blocks[0] % grid->blocks[1]);
    s->block.place[2] = (uint32_t)(number / grid->blocks[0] / grid->blocks[1]);
    s->random = (seed ^ number * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    s->call = call;
    s->closure = closure;
    lay_out_shared(s, grid->shared_bytes);
    lay_out_threads(s, (int32_t)grid->threads);
    return &s->block;
}

void pr_emulated_block_release(pr_emulated_block *block)
{
    block->state->next = free_blocks;
    free_blocks = block->state;
}

bool pr_emulated_block_run(pr_emulated_block *block)
{
    pr_emulated_block_state *s = block->state;
    if (!main_fiber)
        main_fiber = pr_emulated_fiber_of_thread();
    if (!main_fiber)
        no_memory();
    for (int32_t i = 0; i < s->paused_count; i++)
        s->ready[s->ready_count++] = s->paused[i];
    s->paused_count = 0;
    pr_emulated_thread *first = pick(s);
    if (first)
        go(main_fiber, first);
    if (s->ended_count == (int32_t)s->block.grid.threads)
        return true;
    if (s->paused_count == 0)
        stuck(s);
    return false;
}

void pr_emulated_block_end(void)
{
    while (free_fiber_count > 0)
        pr_emulated_fiber_destroy(free_fibers[--free_fiber_count]);
    free(free_fibers);
    free_fibers = NULL;
    fiber_count = fiber_room = 0;
    pr_emulated_fiber_destroy(main_fiber);
    main_fiber = NULL;
    while (free_blocks) {
        pr_emulated_block_state *s = free_blocks;
        free_blocks = s->next;
        for (int32_t i = 0; i < PR_EMULATED_THREADS; i++)
            free(s->thread[i].copies);
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(s->pages, (size_t)(SHARED_PAGES - 1) * PAGE_BYTES);
#endif
        munmap(s->pages, (size_t)SHARED_PAGES * PAGE_BYTES);
        free(s);
    }
}
