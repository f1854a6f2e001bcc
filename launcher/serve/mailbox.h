// SPDX-License-Identifier: BSD-3-Clause
// Records of one kind from one thread to another. The sender appends under a lock; the receiver takes all that is
// there by exchanging two arrays, so neither waits for the other's work. Whoever puts wakes the receiver himself,
// once for as many records as he likes.
// Memory: grows with what is not yet taken; senders bound it by what they have admitted. Threads: any.
#ifndef PR_LAUNCHER_SERVE_MAILBOX_H
#define PR_LAUNCHER_SERVE_MAILBOX_H

#include <stddef.h>

#include "runtime/base/status.h"

typedef struct pr_mailbox pr_mailbox;

pr_status pr_mailbox_create(size_t record_bytes, pr_mailbox **mailbox) PR_MUST_CHECK;
void pr_mailbox_destroy(pr_mailbox *mailbox);  // what records own is the caller's to take first

// Copies the record.
pr_status pr_mailbox_put(pr_mailbox *mailbox, const void *record) PR_MUST_CHECK;
// All records in their order; valid until the next take. One thread takes.
void *pr_mailbox_take(pr_mailbox *mailbox, size_t *records);

#endif
