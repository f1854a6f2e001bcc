// SPDX-License-Identifier: BSD-3-Clause
// One file of weights, mapped read-only, and the other way to its bytes: read calls, which fetch large pieces
// from any file system and can fill memory on huge pages.
// Threads: immutable after open; read and advise may be called by any number at once.
#ifndef PR_RUNTIME_MODEL_FILE_MAP_H
#define PR_RUNTIME_MODEL_FILE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_file_map {
    int descriptor;
    const unsigned char *map;  // NULL: an empty file, or not open
    uint64_t size_bytes;
} pr_file_map;

// Errors: PR_ERR_NOT_FOUND, PR_ERR_IO, PR_ERR_FORMAT (not a regular file).
pr_status pr_file_map_open(const char *path, pr_file_map *file) PR_MUST_CHECK;
void pr_file_map_close(pr_file_map *file);

static inline bool pr_file_map_has(const pr_file_map *file, const void *from)
{
    const unsigned char *at = from;
    return file->map && at >= file->map && at < file->map + file->size_bytes;
}

// The bytes that are mapped at `from`. Returns 0 or an errno; EIO where the file has become shorter.
int pr_file_map_read(const pr_file_map *file, const void *from, void *to, size_t size_bytes);
// Asks the system to fetch them; returns at once or when its queue has room.
void pr_file_map_fetch(const pr_file_map *file, const void *from, size_t size_bytes);
// Whether the file system keeps its files in memory, as /dev/shm does.
bool pr_file_map_is_in_memory(const pr_file_map *file);

#endif
