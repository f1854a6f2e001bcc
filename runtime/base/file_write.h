// SPDX-License-Identifier: BSD-3-Clause
// All of some bytes into a descriptor that waits: write(2) may take a part, and signals interrupt it.
// Threads: any.
#ifndef PR_RUNTIME_BASE_FILE_WRITE_H
#define PR_RUNTIME_BASE_FILE_WRITE_H

#include <stddef.h>

// How many bytes were written: fewer than size_bytes is a failure, and errno says why.
size_t pr_file_write(int descriptor, const void *data, size_t size_bytes);

#endif
