// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/state_writer.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_state_writer {
    const char *output;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t call;
    // Under the lock.
    pr_batch_state state;
    bool told, ends;
    pr_status status;  // of the writes so far
};

static void *write_until_end(void *argument)
{
    pr_state_writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    while (!writer->ends) {
        if (!writer->told) {
            pthread_cond_wait(&writer->call, &writer->lock);
            continue;
        }
        const pr_batch_state state = writer->state;
        writer->told = false;
        pthread_mutex_unlock(&writer->lock);
        pr_status status = pr_batch_state_write(writer->output, &state);
        pthread_mutex_lock(&writer->lock);
        if (status != PR_OK)
            writer->status = status;
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

pr_status pr_state_writer_create(const char *output, pr_state_writer **writer)
{
    pr_state_writer *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the state of the batch");
    made->output = output;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->call, NULL);
    if (pthread_create(&made->thread, NULL, write_until_end, made) != 0) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "cannot start the thread that writes the batch's state");
    }
    pthread_setname_np(made->thread, "state");
    *writer = made;
    return PR_OK;
}

void pr_state_writer_destroy(pr_state_writer *writer)
{
    if (!writer)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->ends = true;
    pthread_cond_signal(&writer->call);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->call);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

pr_status pr_state_writer_tell(pr_state_writer *writer, const pr_batch_state *state)
{
    pthread_mutex_lock(&writer->lock);
    writer->state = *state;
    writer->told = true;
    pr_status status = writer->status;
    pthread_cond_signal(&writer->call);
    pthread_mutex_unlock(&writer->lock);
    return status;
}
