// SPDX-License-Identifier: BSD-3-Clause
// Preloaded into the program (LD_PRELOAD): counts what each thread allocates and locks. At the end one line
// for each thread goes to the file that COUNT_CALLS_FILE names, the main thread's first:
//
//   worker: malloc 71210 calloc 812 realloc 93 free 70114 aligned 40 mutex_lock 1402 sem_post 9
//
// Needs glibc, whose allocator is also there under other names.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

enum call { MALLOC, CALLOC, REALLOC, FREE, ALIGNED, MUTEX_LOCK, SEM_POST, CALLS };
enum { MOST_THREADS = 64 };

static const char *const call_name[CALLS] = {"malloc",  "calloc",     "realloc", "free",
                                             "aligned", "mutex_lock", "sem_post"};

typedef struct thread_counts {
    int64_t calls[CALLS];
    char name[16];
} thread_counts;

static thread_counts threads[MOST_THREADS];
static atomic_int known;
static _Thread_local thread_counts *mine;

static void count(enum call call)
{
    if (!mine) {
        int number = atomic_fetch_add(&known, 1);
        mine = &threads[number < MOST_THREADS ? number : MOST_THREADS - 1];
    }
    int64_t calls = ++mine->calls[call];
    if ((calls & (calls - 1)) == 0)  // a name is given after the thread has begun
        prctl(PR_GET_NAME, mine->name);
}

void *malloc(size_t size)
{
    count(MALLOC);
    return __libc_malloc(size);
}

void *calloc(size_t elements, size_t size)
{
    count(CALLOC);
    return __libc_calloc(elements, size);
}

void *realloc(void *memory, size_t size)
{
    count(REALLOC);
    return __libc_realloc(memory, size);
}

void free(void *memory)
{
    count(FREE);
    __libc_free(memory);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count(ALIGNED);
    return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *taken = aligned_alloc(alignment, size);
    if (!taken)
        return ENOMEM;
    *memory = taken;
    return 0;
}

static _Atomic(void *) real_pthread_mutex_lock, real_sem_post;

static void *find_real(const char *name, _Atomic(void *) *found)
{
    void *function = atomic_load(found);
    if (!function) {
        function = dlsym(RTLD_NEXT, name);
        atomic_store(found, function);
    }
    return function;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int (*real)(pthread_mutex_t *);
    *(void **)&real = find_real("pthread_mutex_lock", &real_pthread_mutex_lock);
    count(MUTEX_LOCK);
    return real(mutex);
}

int sem_post(sem_t *semaphore)
{
    int (*real)(sem_t *);
    *(void **)&real = find_real("sem_post", &real_sem_post);
    count(SEM_POST);
    return real(semaphore);
}

__attribute__((destructor)) static void print_counts(void)
{
    const char *path = getenv("COUNT_CALLS_FILE");
    FILE *file = path ? fopen(path, "w") : NULL;
    int threads_known = atomic_load(&known);
    for (int i = 0; file && i < threads_known && i < MOST_THREADS; i++) {
        fprintf(file, "%s:", &threads[i] == mine ? "worker" : threads[i].name);
        for (int call = 0; call < CALLS; call++)
            fprintf(file, " %s %lld", call_name[call], (long long)threads[i].calls[call]);
        fputc('\n', file);
    }
    if (file)
        fclose(file);
}
