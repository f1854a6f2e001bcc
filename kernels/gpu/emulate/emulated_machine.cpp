// SPDX-License-Identifier: BSD-3-Clause
// Streams, and the thread that does what is in them. `lock` guards all but what the running kernel touches.
#include "kernels/gpu/emulate/emulated_machine.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/gpu/emulate/emulated_error.h"
#include "kernels/gpu/emulate/emulated_memory.h"
#include "kernels/gpu/emulate/emulated_work.h"

enum { PATIENCE_NS = 1000000, IDLE_TURNS = 64, IDLE_NS = 20000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_came, work_done;
static pthread_t machine_thread;
static bool begun, ending;
static pr_gpu_stream *streams;
static pr_emulated_work *free_works;
static uint32_t waiting;    // threads of the host
static uint32_t capturing;  // graphs
static uint64_t shuffle_seed = 1;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// ---- Work: under the lock ----

static pr_emulated_work *take_work(pr_emulated_work_kind kind)
{
    pr_emulated_work *work = free_works;
    if (work)
        free_works = work->next;
    else
        work = (pr_emulated_work *)malloc(sizeof(*work));
    if (!work) {
        pr_emulated_error_set_launch("no memory for more work in a stream");
        return NULL;
    }
    work->next = NULL;
    work->kind = kind;
    return work;
}

static void release_work(pr_emulated_work *work)
{
    work->next = free_works;
    free_works = work;
}

static void append(pr_emulated_list *list, pr_emulated_work *work)
{
    if (list->last)
        list->last->next = work;
    else
        list->first = work;
    list->last = work;
}

static void put(pr_gpu_stream *stream, pr_emulated_work *work)
{
    if (stream->capture) {
        append(&stream->capture->list, work);
        return;
    }
    bool was_empty = !stream->queue.first;
    append(&stream->queue, work);
    if (was_empty)
        pthread_cond_signal(&work_came);
}

// ---- The machine's thread ----

static void finish(pr_gpu_stream *stream)
{
    pr_emulated_work *work = stream->queue.first;
    if (work->kind == PR_EMULATED_GRAPH) {
        if (stream->graph_step)
            stream->graph_step = stream->graph_step->next;
        if (stream->graph_step)
            return;
        work->graph->queued--;
        stream->in_graph = false;
    }
    stream->queue.first = work->next;
    if (!stream->queue.first)
        stream->queue.last = NULL;
    release_work(work);
    pthread_cond_broadcast(&work_done);
}

static bool kernel_turn(pr_gpu_stream *stream, const pr_emulated_work *work)
{
    pr_emulated_run *run = &stream->run;
    if (!run->kernel) {
        uint64_t seed = (shuffle_seed + ++stream->launches) * 0x9e3779b97f4a7c15u;
        pr_emulated_kernel_begin(run, &work->kernel, seed ^ seed >> 29);
    }
    pthread_mutex_unlock(&lock);
    bool done = pr_emulated_kernel_turn(run);
    pthread_mutex_lock(&lock);
    if (done)
        run->kernel = NULL;
    return done;
}

static bool event_turn(const pr_emulated_work *work)
{
    pr_gpu_event *event = work->event.event;
    if (work->kind == PR_EMULATED_FOLLOW)
        return event->done >= work->event.number;
    event->done = work->event.number;
    event->done_ns = now_ns();
    return true;
}

// One piece of work, or one turn of a kernel. False: it waits for something.
static bool stream_turn(pr_gpu_stream *stream)
{
    const pr_emulated_work *work = stream->queue.first;
    if (work->kind == PR_EMULATED_GRAPH) {
        if (!stream->in_graph)
            stream->graph_step = work->graph->list.first;
        stream->in_graph = true;
        work = stream->graph_step;
    }
    bool done = true;
    if (work && work->kind == PR_EMULATED_KERNEL)
        done = kernel_turn(stream, work);
    else if (work && work->kind == PR_EMULATED_COPY)
        memmove(work->bytes.to, work->bytes.from, work->bytes.size_bytes);
    else if (work && work->kind == PR_EMULATED_FILL)
        memset(work->bytes.to, work->bytes.byte, work->bytes.size_bytes);
    else if (work)
        done = event_turn(work);
    if (done)
        finish(stream);
    return done;
}

static bool any_work(void)
{
    for (const pr_gpu_stream *stream = streams; stream; stream = stream->next)
        if (stream->queue.first)
            return true;
    return false;
}

// All streams until nothing is left.
static void work_off(void)
{
    uint32_t idle = 0;
    while (any_work() && !ending) {
        bool moved = false;
        for (pr_gpu_stream *stream = streams; stream; stream = stream->next)
            if (stream->queue.first && stream_turn(stream))
                moved = true;
        idle = moved ? 0 : idle + 1;
        if (moved)
            continue;
        // Everything waits: for the host, another process, or the clock.
        const struct timespec pause = {0, IDLE_NS};
        pthread_mutex_unlock(&lock);
        if (idle > IDLE_TURNS)
            nanosleep(&pause, NULL);
        else
            sched_yield();
        pthread_mutex_lock(&lock);
    }
}

static void *run_machine(void *)
{
    pthread_mutex_lock(&lock);
    while (!ending) {
        if (!any_work()) {
            pthread_cond_wait(&work_came, &lock);
            continue;
        }
        uint64_t limit = now_ns() + PATIENCE_NS;
        const struct timespec until = {(time_t)(limit / 1000000000u), (long)(limit % 1000000000u)};
        while (waiting == 0 && !ending)
            if (pthread_cond_timedwait(&work_came, &lock, &until) == ETIMEDOUT)
                break;
        work_off();
    }
    pr_emulated_block_end();
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool begin_machine(void)
{
    if (begun)
        return true;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&work_came, &attributes);
    pthread_cond_init(&work_done, &attributes);
    pthread_condattr_destroy(&attributes);
    begun = pthread_create(&machine_thread, NULL, run_machine, NULL) == 0;
    if (!begun)
        pr_emulated_error_set("no thread for the emulated device: %s", strerror(errno));
    return begun;
}

// When the process ends. Streams that were not destroyed keep their memory, their work is not done.
__attribute__((destructor)) static void end_machine(void)
{
    if (begun) {
        pthread_mutex_lock(&lock);
        ending = true;
        pthread_cond_signal(&work_came);
        pthread_mutex_unlock(&lock);
        pthread_join(machine_thread, NULL);
        begun = false;
    }
    while (free_works) {
        pr_emulated_work *work = free_works;
        free_works = work->next;
        free(work);
    }
}

// ---- Streams ----

static bool refuse_capture(const char *what)
{
    for (pr_gpu_stream *stream = streams; stream; stream = stream->next)
        if (stream->capture) {
            stream->capture->broken = true;
            stream->capture->why = what;
        }
    pr_emulated_error_set("%s is not possible while a graph is captured", what);
    return false;
}

static void wait_for(const pr_gpu_stream *stream)
{
    waiting++;
    pthread_cond_signal(&work_came);
    while (stream ? stream->queue.first != NULL : any_work())
        pthread_cond_wait(&work_done, &lock);
    waiting--;
}

pr_gpu_stream *pr_emulated_machine_stream_create(void)
{
    pr_gpu_stream *stream = (pr_gpu_stream *)calloc(1, sizeof(*stream));
    if (!stream) {
        pr_emulated_error_set("no memory for a stream");
        return NULL;
    }
    pthread_mutex_lock(&lock);
    if (!begin_machine()) {
        pthread_mutex_unlock(&lock);
        free(stream);
        return NULL;
    }
    pr_gpu_stream **end = &streams;
    while (*end)
        end = &(*end)->next;
    *end = stream;
    pthread_mutex_unlock(&lock);
    return stream;
}

void pr_emulated_machine_stream_destroy(pr_gpu_stream *stream)
{
    if (!stream)
        return;
    pthread_mutex_lock(&lock);
    wait_for(stream);
    pr_gpu_stream **at = &streams;
    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    pthread_mutex_unlock(&lock);
    free(stream);
}

bool pr_emulated_machine_launch(
    pr_gpu_stream *stream,
    const pr_emulated_grid *grid,
    bool together,
    void (*call)(const void *closure),
    const void *closure,
    size_t closure_bytes)
{
    if (!pr_emulated_kernel_fits(grid) || (together && !pr_emulated_kernel_fits_together(grid)))
        return false;
    pthread_mutex_lock(&lock);
    pr_emulated_work *work = take_work(PR_EMULATED_KERNEL);
    if (work) {
        memcpy(work->closure, closure, closure_bytes);
        work->kernel = {*grid, together, call, work->closure};
        put(stream, work);
    }
    pthread_mutex_unlock(&lock);
    return work != NULL;
}

// Memory that a GPU does not see is copied before the call returns, as CUDA does.
static bool put_bytes(
    pr_gpu_stream *stream,
    pr_emulated_work_kind kind,
    void *to,
    const void *from,
    size_t size_bytes,
    unsigned char byte)
{
    bool seen = pr_emulated_memory_seen(to) && (!from || pr_emulated_memory_seen(from));
    pthread_mutex_lock(&lock);
    if (!seen && stream->capture) {
        refuse_capture("a copy with memory that is neither the device's nor pinned");
        pthread_mutex_unlock(&lock);
        return false;
    }
    pr_emulated_work *work = take_work(kind);
    if (work) {
        work->bytes = {to, from, size_bytes, byte};
        put(stream, work);
        if (!seen)
            wait_for(stream);
    }
    pthread_mutex_unlock(&lock);
    return work != NULL;
}

bool pr_emulated_machine_copy(void *to, const void *from, size_t size_bytes, pr_gpu_stream *stream)
{
    return size_bytes == 0 || put_bytes(stream, PR_EMULATED_COPY, to, from, size_bytes, 0);
}

bool pr_emulated_machine_fill(
    void *to, unsigned char byte, size_t size_bytes, pr_gpu_stream *stream)
{
    return size_bytes == 0 || put_bytes(stream, PR_EMULATED_FILL, to, NULL, size_bytes, byte);
}

bool pr_emulated_machine_wait(pr_gpu_stream *stream)
{
    pthread_mutex_lock(&lock);
    bool fine = capturing == 0 || refuse_capture("a wait");
    if (fine)
        wait_for(stream);
    pthread_mutex_unlock(&lock);
    return fine && !pr_emulated_error_of_launch();
}

bool pr_emulated_machine_capturing(void)
{
    pthread_mutex_lock(&lock);
    bool refused = capturing > 0 && !refuse_capture("taking or giving back memory");
    pthread_mutex_unlock(&lock);
    return refused;
}

void pr_emulated_machine_shuffle(uint64_t seed)
{
    pthread_mutex_lock(&lock);
    shuffle_seed = seed;
    pthread_mutex_unlock(&lock);
}

// ---- Events ----

pr_gpu_event *pr_emulated_machine_event_create(bool timed)
{
    pr_gpu_event *event = (pr_gpu_event *)calloc(1, sizeof(*event));
    if (!event)
        pr_emulated_error_set("no memory for an event");
    else
        event->timed = timed;
    return event;
}

void pr_emulated_machine_event_destroy(pr_gpu_event *event)
{
    if (!event)
        return;
    // Work that was put in may still speak of it.
    pthread_mutex_lock(&lock);
    wait_for(NULL);
    pthread_mutex_unlock(&lock);
    free(event);
}

// In a capture the order of the calls is the graph's, so an event only says which streams belong to it.
bool pr_emulated_machine_event_record(pr_gpu_event *event, pr_gpu_stream *stream)
{
    pthread_mutex_lock(&lock);
    event->capture = stream->capture;
    pr_emulated_work *work = stream->capture ? NULL : take_work(PR_EMULATED_RECORD);
    bool fine = stream->capture || work;
    if (work) {
        work->event = {event, ++event->asked};
        put(stream, work);
    }
    pthread_mutex_unlock(&lock);
    return fine;
}

static bool is_captured(const pr_gpu_graph *graph)
{
    for (const pr_gpu_stream *stream = streams; stream; stream = stream->next)
        if (graph && stream->capture == graph)
            return true;
    return false;
}

static bool follow(pr_gpu_stream *stream, pr_gpu_event *event)
{
    if (is_captured(event->capture)) {
        if (stream->capture && stream->capture != event->capture)
            return refuse_capture("to follow an event of another graph");
        stream->capture = event->capture;
        return true;
    }
    if (stream->capture)
        return refuse_capture("to follow an event from outside");
    pr_emulated_work *work = take_work(PR_EMULATED_FOLLOW);
    if (!work)
        return false;
    work->event = {event, event->asked};
    put(stream, work);
    return true;
}

bool pr_emulated_machine_event_follow(pr_gpu_stream *stream, pr_gpu_event *event)
{
    pthread_mutex_lock(&lock);
    bool fine = follow(stream, event);
    pthread_mutex_unlock(&lock);
    return fine;
}

bool pr_emulated_machine_event_wait(pr_gpu_event *event)
{
    pthread_mutex_lock(&lock);
    bool fine = capturing == 0 || refuse_capture("a wait");
    if (fine) {
        waiting++;
        pthread_cond_signal(&work_came);
        for (uint64_t number = event->asked; event->done < number;)
            pthread_cond_wait(&work_done, &lock);
        waiting--;
    }
    pthread_mutex_unlock(&lock);
    return fine && !pr_emulated_error_of_launch();
}

float pr_emulated_machine_event_ms(pr_gpu_event *from, pr_gpu_event *to)
{
    pthread_mutex_lock(&lock);
    float ms = (float)((double)(int64_t)(to->done_ns - from->done_ns) * 1e-6);
    pthread_mutex_unlock(&lock);
    return ms;
}

// ---- Graphs ----

bool pr_emulated_machine_graph_begin(pr_gpu_stream *stream)
{
    pr_gpu_graph *graph = (pr_gpu_graph *)calloc(1, sizeof(*graph));
    if (!graph) {
        pr_emulated_error_set("no memory for a graph");
        return false;
    }
    pthread_mutex_lock(&lock);
    bool fine = !stream->capture;
    if (fine) {
        stream->capture = graph;
        graph->origin = stream;
        capturing++;
    }
    pthread_mutex_unlock(&lock);
    if (!fine) {
        free(graph);
        pr_emulated_error_set("the stream is being captured already");
    }
    return fine;
}

static void free_graph(pr_gpu_graph *graph)
{
    while (graph->list.first) {
        pr_emulated_work *work = graph->list.first;
        graph->list.first = work->next;
        release_work(work);
    }
    free(graph);
}

pr_gpu_graph *pr_emulated_machine_graph_end(pr_gpu_stream *stream)
{
    pthread_mutex_lock(&lock);
    pr_gpu_graph *graph = stream->capture;
    if (!graph || graph->origin != stream) {
        pthread_mutex_unlock(&lock);
        pr_emulated_error_set("no capture was begun in this stream");
        return NULL;
    }
    for (pr_gpu_stream *other = streams; other; other = other->next)
        if (other->capture == graph)
            other->capture = NULL;
    capturing--;
    if (graph->broken) {
        pr_emulated_error_set("the graph cannot be made: %s was in it", graph->why);
        free_graph(graph);
        graph = NULL;
    }
    pthread_mutex_unlock(&lock);
    return graph;
}

bool pr_emulated_machine_graph_run(pr_gpu_graph *graph, pr_gpu_stream *stream)
{
    pthread_mutex_lock(&lock);
    bool fine = !stream->capture || refuse_capture("running a graph");
    pr_emulated_work *work = fine ? take_work(PR_EMULATED_GRAPH) : NULL;
    if (work) {
        work->graph = graph;
        graph->queued++;
        put(stream, work);
    }
    pthread_mutex_unlock(&lock);
    return work != NULL;
}

void pr_emulated_machine_graph_destroy(pr_gpu_graph *graph)
{
    if (!graph)
        return;
    pthread_mutex_lock(&lock);
    waiting++;
    pthread_cond_signal(&work_came);
    while (graph->queued > 0)
        pthread_cond_wait(&work_done, &lock);
    waiting--;
    free_graph(graph);
    pthread_mutex_unlock(&lock);
}
