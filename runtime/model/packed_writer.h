// SPDX-License-Identifier: BSD-3-Clause
// Writes polyreme.weights (packed_table.h): blobs in the order they are given, then the table, then the
// head. Beside its place, and renamed when it is whole.
// Threads: one writer each.
#ifndef PR_RUNTIME_MODEL_PACKED_WRITER_H
#define PR_RUNTIME_MODEL_PACKED_WRITER_H

#include "runtime/model/packed_table.h"

typedef struct pr_packed_writer pr_packed_writer;

// Errors: PR_ERR_IO.
pr_status pr_packed_writer_open(
    const char *path, const char *layout, pr_quantization quantization, pr_packed_writer **writer)
    PR_MUST_CHECK;
// entry: all but offsets and hash; its name is copied.
pr_status pr_packed_writer_add(
    pr_packed_writer *writer, const pr_packed_entry *entry, const void *data, size_t size_bytes)
    PR_MUST_CHECK;
// The file is there, on the disk, or an error is.
pr_status pr_packed_writer_finish(pr_packed_writer *writer) PR_MUST_CHECK;
// Ends the writer; without finish, nothing is left of the file.
void pr_packed_writer_close(pr_packed_writer *writer);
int64_t pr_packed_writer_bytes(const pr_packed_writer *writer);  // so far

#endif
