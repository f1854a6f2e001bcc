// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/mailbox.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

// An array that grew beyond it is given back when it is empty.
enum { KEPT_BYTES = 4 << 20 };

struct pr_mailbox {
    size_t record_bytes;
    pthread_mutex_t lock;
    pr_byte_buffer put;    // under the lock
    pr_byte_buffer taken;  // the receiver's
};

pr_status pr_mailbox_create(size_t record_bytes, pr_mailbox **mailbox)
{
    pr_mailbox *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a mailbox");
    made->record_bytes = record_bytes;
    pthread_mutex_init(&made->lock, NULL);
    *mailbox = made;
    return PR_OK;
}

void pr_mailbox_destroy(pr_mailbox *mailbox)
{
    if (!mailbox)
        return;
    pthread_mutex_destroy(&mailbox->lock);
    pr_byte_buffer_free(&mailbox->put);
    pr_byte_buffer_free(&mailbox->taken);
    free(mailbox);
}

pr_status pr_mailbox_put(pr_mailbox *mailbox, const void *record)
{
    pthread_mutex_lock(&mailbox->lock);
    pr_byte_buffer_append(&mailbox->put, record, mailbox->record_bytes);
    pr_status status = pr_byte_buffer_check(&mailbox->put);
    pthread_mutex_unlock(&mailbox->lock);
    return status;
}

void *pr_mailbox_take(pr_mailbox *mailbox, size_t *records)
{
    if (mailbox->taken.capacity_bytes > KEPT_BYTES)
        pr_byte_buffer_free(&mailbox->taken);
    pr_byte_buffer_clear(&mailbox->taken);
    pthread_mutex_lock(&mailbox->lock);
    pr_byte_buffer full = mailbox->put;
    mailbox->put = mailbox->taken;
    mailbox->taken = full;
    pthread_mutex_unlock(&mailbox->lock);
    *records = mailbox->taken.size_bytes / mailbox->record_bytes;
    return mailbox->taken.data;
}
