// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/read_ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/log.h"

enum { PIECE_BYTES = 4 << 20, WINDOW_BYTES = 256 << 20 };

typedef struct file_range {
    const char *from;
    size_t size_bytes;
} file_range;

struct pr_read_ahead {
    const pr_weights *weights;
    file_range *range;  // [ranges]
    size_t ranges, room;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t moved;  // used_bytes or ending
    size_t used_bytes;
    bool ending;
};

pr_status pr_read_ahead_create(const pr_weights *weights, pr_read_ahead **ahead)
{
    pr_read_ahead *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory to read ahead");
    made->weights = weights;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->moved, NULL);
    *ahead = made;
    return PR_OK;
}

pr_status pr_read_ahead_add(pr_read_ahead *ahead, const void *from, size_t size_bytes)
{
    if (ahead->ranges == ahead->room) {
        size_t room = ahead->room > 0 ? 2 * ahead->room : 256;
        file_range *grown = realloc(ahead->range, room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory to read ahead");
        ahead->range = grown;
        ahead->room = room;
    }
    ahead->range[ahead->ranges++] = (file_range){.from = from, .size_bytes = size_bytes};
    return PR_OK;
}

// Waits until loading is at most a window behind. False: it has ended.
static bool wait_for_room(pr_read_ahead *ahead, size_t asked_bytes)
{
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->ending && asked_bytes > ahead->used_bytes + WINDOW_BYTES)
        pthread_cond_wait(&ahead->moved, &ahead->lock);
    bool goes_on = !ahead->ending;
    pthread_mutex_unlock(&ahead->lock);
    return goes_on;
}

static void *fetch_all(void *argument)
{
    pr_read_ahead *ahead = argument;
    size_t asked_bytes = 0;
    for (size_t i = 0; i < ahead->ranges; i++) {
        const file_range *range = &ahead->range[i];
        for (size_t at = 0; at < range->size_bytes; at += PIECE_BYTES) {
            size_t left = range->size_bytes - at, piece = left < PIECE_BYTES ? left : PIECE_BYTES;
            asked_bytes += piece;
            if (!wait_for_room(ahead, asked_bytes))
                return NULL;
            pr_weights_fetch(ahead->weights, range->from + at, piece);
        }
    }
    return NULL;
}

void pr_read_ahead_start(pr_read_ahead *ahead)
{
    ahead->started = pthread_create(&ahead->thread, NULL, fetch_all, ahead) == 0;
}

void pr_read_ahead_used(pr_read_ahead *ahead, size_t size_bytes)
{
    pthread_mutex_lock(&ahead->lock);
    ahead->used_bytes += size_bytes;
    pthread_cond_signal(&ahead->moved);
    pthread_mutex_unlock(&ahead->lock);
}

void pr_read_ahead_destroy(pr_read_ahead *ahead)
{
    if (!ahead)
        return;
    if (ahead->started) {
        pthread_mutex_lock(&ahead->lock);
        ahead->ending = true;
        pthread_cond_signal(&ahead->moved);
        pthread_mutex_unlock(&ahead->lock);
        pthread_join(ahead->thread, NULL);
    }
    pthread_cond_destroy(&ahead->moved);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead->range);
    free(ahead);
}
