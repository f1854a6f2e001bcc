// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/gpu/emulate/emulated_error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

enum { PAGE_BYTES = 4096 };

enum origin { DEVICE, PINNED, OPENED, OPENED_HERE };

struct allocation {
    allocation *next;
    unsigned char *base;
    size_t bytes, mapped_bytes;  // without the page behind
    origin from;
    int file;  // of a shared one, else -1
};

// What the bytes of a pr_gpu_ipc are.
struct handle {
    uint64_t magic;
    int64_t process;
    uint64_t address, bytes, inode;
    int32_t file;
};
static_assert(sizeof(handle) <= PR_GPU_IPC_BYTES, "a handle fits");
static const uint64_t HANDLE_MAGIC = 0x706f6c79656d7531u;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static allocation *allocations;
static size_t taken_bytes;

int64_t pr_emulated_memory_bytes(void)
{
    const int64_t most = (int64_t)8 << 30;
    int64_t half = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
    return half < most ? half : most;
}

int64_t pr_emulated_memory_free_bytes(void)
{
    pthread_mutex_lock(&lock);
    int64_t bytes = pr_emulated_memory_bytes() - (int64_t)taken_bytes;
    pthread_mutex_unlock(&lock);
    return bytes > 0 ? bytes : 0;
}

// Under the lock: the link to the allocation that holds the address, or to the end.
static allocation **find(const void *memory)
{
    allocation **at = &allocations;
    const unsigned char *byte = (const unsigned char *)memory;
    while (*at && (byte < (*at)->base || byte >= (*at)->base + (*at)->mapped_bytes))
        at = &(*at)->next;
    return at;
}

static void watch(const allocation *a, bool on)
{
#if defined(__SANITIZE_ADDRESS__)
    if (on)
        __asan_poison_memory_region(a->base + a->bytes, a->mapped_bytes - a->bytes);
    else
        __asan_unpoison_memory_region(a->base, a->mapped_bytes);
#else
    (void)a;
    (void)on;
#endif
}

// Pages of a file (or of none, -1) with a page behind that cannot be touched. NULL: refused.
static allocation *map_pages(size_t bytes, int file, origin from)
{
    allocation *a = (allocation *)calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    size_t mapped = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (mapped == 0)
        mapped = PAGE_BYTES;
    unsigned char *base = (unsigned char *)mmap(
        NULL, mapped + PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(a);
        return NULL;
    }
    int flags = MAP_FIXED | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED);
    if (mmap(base, mapped, PROT_READ | PROT_WRITE, flags, file, 0) == MAP_FAILED) {
        munmap(base, mapped + PAGE_BYTES);
        free(a);
        return NULL;
    }
    *a = {NULL, base, bytes, mapped, from, -1};
    watch(a, true);
    return a;
}

static void add(allocation *a)
{
    a->next = allocations;
    allocations = a;
}

static void remove(allocation **at)
{
    allocation *a = *at;
    *at = a->next;
    if (a->from == DEVICE)
        taken_bytes -= a->mapped_bytes;
    if (a->from != OPENED_HERE) {
        watch(a, false);
        munmap(a->base, a->mapped_bytes + PAGE_BYTES);
    }
    if (a->file >= 0)
        close(a->file);
    free(a);
}

void *pr_emulated_memory_take(size_t size_bytes, bool pinned)
{
    pthread_mutex_lock(&lock);
    allocation *a = NULL;
    size_t most = (size_t)pr_emulated_memory_bytes();
    if (pinned || (size_bytes <= most && taken_bytes <= most - size_bytes))
        a = map_pages(size_bytes, -1, pinned ? PINNED : DEVICE);
    if (a) {
        add(a);
        if (!pinned)
            taken_bytes += a->mapped_bytes;
    } else
        pr_emulated_error_set("out of memory: %zu more bytes", size_bytes);
    pthread_mutex_unlock(&lock);
    return a ? a->base : NULL;
}

void pr_emulated_memory_release(void *memory)
{
    pthread_mutex_lock(&lock);
    allocation **at = find(memory);
    if (*at && (*at)->base == memory && (*at)->from <= PINNED)
        remove(at);
    pthread_mutex_unlock(&lock);
}

bool pr_emulated_memory_seen(const void *memory)
{
    pthread_mutex_lock(&lock);
    bool seen = *find(memory) != NULL;
    pthread_mutex_unlock(&lock);
    return seen;
}

// ---- Between processes ----

// The pages become those of a file, with the same bytes at the same place.
static bool make_shared(allocation *a)
{
    int file = memfd_create("polyreme_emulated", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)a->mapped_bytes) != 0)
        goto fail;
    watch(a, false);
    for (size_t done = 0; done < a->mapped_bytes;) {
        ssize_t wrote = pwrite(file, a->base + done, a->mapped_bytes - done, (off_t)done);
        if (wrote <= 0)
            goto fail;
        done += (size_t)wrote;
    }
    if (mmap(a->base, a->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) ==
        MAP_FAILED)
        goto fail;
    watch(a, true);
    a->file = file;
    return true;
fail:
    pr_emulated_error_set("memory cannot be shared: %s", strerror(errno));
    if (file >= 0)
        close(file);
    return false;
}

bool pr_emulated_memory_share(void *memory, pr_gpu_ipc *ipc)
{
    pthread_mutex_lock(&lock);
    allocation *a = *find(memory);
    bool fine = a && a->base == memory && a->from == DEVICE;
    if (!fine)
        pr_emulated_error_set("only a whole allocation of the device can be shared");
    struct stat status = {};
    fine = fine && (a->file >= 0 || make_shared(a)) && fstat(a->file, &status) == 0;
    if (fine) {
        handle mine = {HANDLE_MAGIC, getpid(),      (uint64_t)(uintptr_t)memory,
                       a->bytes,     status.st_ino, a->file};
        memset(ipc, 0, sizeof(*ipc));
        memcpy(ipc->handle, &mine, sizeof(mine));
    }
    pthread_mutex_unlock(&lock);
    return fine;
}

static allocation *open_here(const handle *theirs)
{
    allocation *a = (allocation *)calloc(1, sizeof(*a));
    if (a)
        *a = {NULL,          (unsigned char *)(uintptr_t)theirs->address,
              theirs->bytes, theirs->bytes,
              OPENED_HERE,   -1};
    return a;
}

static allocation *open_theirs(const handle *theirs)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%lld/fd/%d", (long long)theirs->process, theirs->file);
    int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat status = {};
    if (file < 0 || fstat(file, &status) != 0 || status.st_ino != theirs->inode) {
        pr_emulated_error_set(
            "memory of process %lld cannot be opened: %s", (long long)theirs->process,
            file < 0 ? strerror(errno) : "it is no longer there");
        if (file >= 0)
            close(file);
        return NULL;
    }
    allocation *a = map_pages(theirs->bytes, file, OPENED);
    close(file);
    return a;
}

void *pr_emulated_memory_open(const pr_gpu_ipc *ipc)
{
    handle theirs;
    memcpy(&theirs, ipc->handle, sizeof(theirs));
    if (theirs.magic != HANDLE_MAGIC) {
        pr_emulated_error_set("not a handle of an emulated device");
        return NULL;
    }
    allocation *a = theirs.process == getpid() ? open_here(&theirs) : open_theirs(&theirs);
    if (!a)
        return NULL;
    pthread_mutex_lock(&lock);
    add(a);
    pthread_mutex_unlock(&lock);
    return a->base;
}

void pr_emulated_memory_close(void *memory)
{
    pthread_mutex_lock(&lock);
    for (allocation **at = &allocations; *at; at = &(*at)->next)
        if ((*at)->base == memory && (*at)->from >= OPENED) {
            remove(at);
            break;
        }
    pthread_mutex_unlock(&lock);
}
