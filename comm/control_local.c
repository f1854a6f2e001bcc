// SPDX-License-Identifier: BSD-3-Clause
// Rank 0's controller thread and worker thread: two lists under one lock, an event descriptor each.
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/control_link.h"
#include "runtime/base/log.h"

typedef struct local_queue {
    pr_letter *first, **last;
    int fd;     // counts while letters wait, or when the other side has left
    bool left;  // the side that reads this queue is gone
} local_queue;

struct pr_local_pair {
    pthread_mutex_t lock;
    local_queue queue[2];  // [reading side]
};

static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;  // fails only when the counter is full, and then it is readable
}

static void clear_fd(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;  // nonblocking: nothing to clear is fine
}

pr_status pr_local_pair_create(pr_local_pair **pair)
{
    pr_local_pair *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the control queues");
    for (int side = 0; side < 2; side++) {
        local_queue *queue = &created->queue[side];
        queue->last = &queue->first;
        queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    if (created->queue[0].fd < 0 || created->queue[1].fd < 0) {
        for (int side = 0; side < 2; side++) {
            if (created->queue[side].fd >= 0)
                close(created->queue[side].fd);
        }
        free(created);
        return pr_fail(
            PR_ERR_RESOURCE, "no event descriptor for the control queues: raise ulimit -n");
    }
    pthread_mutex_init(&created->lock, NULL);
    *pair = created;
    return PR_OK;
}

static void destroy_pair(pr_local_pair *pair)
{
    for (int side = 0; side < 2; side++) {
        for (pr_letter *letter = pair->queue[side].first, *next; letter; letter = next) {
            next = letter->next;
            free(letter);
        }
        close(pair->queue[side].fd);
    }
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

void pr_local_pair_release(pr_local_pair *pair, int side)
{
    pthread_mutex_lock(&pair->lock);
    pair->queue[side].left = true;
    bool last = pair->queue[!side].left;
    signal_fd(pair->queue[!side].fd);
    pthread_mutex_unlock(&pair->lock);
    if (last)
        destroy_pair(pair);
}

int pr_local_pair_fd(const pr_local_pair *pair, int side) { return pair->queue[side].fd; }

bool pr_local_pair_push(pr_local_pair *pair, int from_side, pr_letter *letter)
{
    local_queue *queue = &pair->queue[!from_side];
    letter->next = NULL;
    pthread_mutex_lock(&pair->lock);
    bool there = !queue->left;
    if (there) {
        if (!queue->first)
            signal_fd(queue->fd);
        *queue->last = letter;
        queue->last = &letter->next;
    }
    pthread_mutex_unlock(&pair->lock);
    return there;
}

pr_letter *pr_local_pair_take(pr_local_pair *pair, int side)
{
    local_queue *queue = &pair->queue[side];
    pthread_mutex_lock(&pair->lock);
    pr_letter *letter = queue->first;
    if (letter) {
        queue->first = letter->next;
        if (!queue->first) {
            queue->last = &queue->first;
            if (!pair->queue[!side].left)
                clear_fd(queue->fd);
        }
    }
    pthread_mutex_unlock(&pair->lock);
    return letter;
}

bool pr_local_pair_has_left(pr_local_pair *pair, int side)
{
    pthread_mutex_lock(&pair->lock);
    bool left = pair->queue[!side].left && !pair->queue[side].first;
    pthread_mutex_unlock(&pair->lock);
    return left;
}
