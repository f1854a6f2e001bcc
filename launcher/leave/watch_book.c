// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/leave/watch_book.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "launcher/engine/layout_choice.h"
#include "runtime/base/log.h"

enum { MOST_NAMED = 6, LOST_PATIENCE_MS = 4000 };

typedef struct book_rank {
    pr_watch_state state;
    bool judged;           // heard of, and has not left
    bool warned;           // of its silence
    uint64_t slow_number;  // the operation after which it was called slow, and one more
    int64_t heard_ns;
    int64_t since_ns;  // its state is what it is now
    int64_t lost_ns;   // its connection ended, 0: has not
} book_rank;

struct pr_watch_book {
    int32_t ranks;
    int64_t limit_ns;
    const pr_layout *layout;
    book_rank *rank;  // [ranks]
};

pr_status pr_watch_book_create(int32_t ranks, int64_t limit_ns, pr_watch_book **book)
{
    pr_watch_book *made = calloc(1, sizeof *made);
    book_rank *rank = calloc((size_t)ranks, sizeof *rank);
    if (!made || !rank) {
        free(made);
        free(rank);
        return pr_fail(PR_ERR_RESOURCE, "no memory to watch %d ranks", ranks);
    }
    *made = (pr_watch_book){.ranks = ranks, .limit_ns = limit_ns, .rank = rank};
    *book = made;
    return PR_OK;
}

void pr_watch_book_destroy(pr_watch_book *book)
{
    if (!book)
        return;
    free(book->rank);
    free(book);
}

void pr_watch_book_set_layout(pr_watch_book *book, const pr_layout *layout)
{
    book->layout = layout;
}

void pr_watch_book_hear(
    pr_watch_book *book, int32_t rank, int64_t now_ns, const pr_watch_state *state)
{
    book_rank *entry = &book->rank[rank];
    if (!entry->judged || entry->state.changes != state->changes)
        entry->since_ns = now_ns;
    entry->state = *state;
    entry->state.operation[PR_WATCH_NAME_BYTES - 1] = '\0';
    entry->state.wait[PR_WATCH_NAME_BYTES - 1] = '\0';
    entry->judged = true;
    entry->warned = false;
    entry->lost_ns = 0;  // another process has taken its place
    entry->heard_ns = now_ns;
}

void pr_watch_book_lose(pr_watch_book *book, int32_t rank, int64_t now_ns)
{
    if (book->rank[rank].judged)
        book->rank[rank].lost_ns = now_ns;
}

void pr_watch_book_leave(pr_watch_book *book, int32_t rank) { book->rank[rank].judged = false; }

void pr_watch_book_pause(pr_watch_book *book, int64_t pause_ns)
{
    for (int32_t r = 0; r < book->ranks; r++) {
        book->rank[r].heard_ns += pause_ns;
        book->rank[r].since_ns += pause_ns;
    }
}

// ---- Text ----

typedef struct line {
    char *text;
    size_t used;
} line;

static void add(line *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(line *to, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = vsnprintf(to->text + to->used, PR_WATCH_TEXT_BYTES - to->used, format, values);
    va_end(values);
    if (length > 0)
        to->used += (size_t)length;
    if (to->used >= PR_WATCH_TEXT_BYTES)
        to->used = PR_WATCH_TEXT_BYTES - 1;
}

static void add_rank(const pr_watch_book *book, int32_t rank, line *to)
{
    char name[PR_LAYOUT_RANK_BYTES];
    pr_layout_rank_text(book->layout, rank, name);
    add(to, "%s", name);
}

// "expert combine of layer 7, plan 12 step 3"
static void add_place(const pr_watch_state *state, line *to)
{
    const char *operation = state->operation[0] ? state->operation : "the start";
    if (state->activity == PR_WATCH_WAITS && state->wait[0])
        add(to, "%s after ", state->wait);
    add(to, "%s", operation);
    if (state->layer >= 0)
        add(to, " of layer %d", (int)state->layer);
    if (state->plan > 0)
        add(to, ", plan %llu step %d", (unsigned long long)state->plan, (int)state->step);
}

static bool waits(const book_rank *entry)
{
    return entry->judged && !entry->lost_ns && entry->state.activity == PR_WATCH_WAITS;
}

// Directly, or for a rank that does.
static bool waits_for(const pr_watch_book *book, int32_t rank, int32_t target)
{
    for (int32_t hops = 0; hops < book->ranks && rank != target; hops++) {
        int32_t peer = book->rank[rank].state.peer;
        if (!waits(&book->rank[rank]))
            return false;
        if (peer == target || peer < 0 || peer >= book->ranks)
            return true;
        rank = peer;
    }
    return false;
}

// The one whose words tell most: who waits for it directly, else the first.
static int32_t find_witness(const pr_watch_book *book, int32_t target, int32_t *waiters)
{
    int32_t witness = -1;
    *waiters = 0;
    for (int32_t r = 0; r < book->ranks; r++) {
        if (r == target || !waits_for(book, r, target))
            continue;
        bool direct = book->rank[r].state.peer == target;
        if (witness < 0 || (direct && book->rank[witness].state.peer != target))
            witness = r;
        ++*waiters;
    }
    return witness;
}

static void add_waiters(const pr_watch_book *book, int32_t target, int32_t waiters, line *to)
{
    int32_t named = 0;
    add(to, waiters == 1 ? "rank" : "ranks");
    for (int32_t r = 0; r < book->ranks && named < MOST_NAMED; r++) {
        if (r != target && waits_for(book, r, target))
            add(to, "%s %d", named++ > 0 ? "," : "", (int)r);
    }
    if (waiters > named)
        add(to, " and %d more", (int)(waiters - named));
    add(to, waiters == 1 ? " waits" : " wait");
}

// Numbers of different groups say nothing about each other.
static bool counts_alike(const pr_watch_book *book, int32_t rank, int32_t other)
{
    return !book->layout ||
           pr_layout_group_of(book->layout, rank) == pr_layout_group_of(book->layout, other);
}

// "ranks 1, 2 wait for it since 5.0 s in ... (their number 4711; its last was 4698, ...)"
static void add_evidence(const pr_watch_book *book, int32_t target, int64_t now_ns, line *to)
{
    const pr_watch_state *last = &book->rank[target].state;
    int32_t waiters, witness = find_witness(book, target, &waiters);
    if (witness < 0) {
        add(to, "nobody waits for it (");
    } else {
        const book_rank *entry = &book->rank[witness];
        add_waiters(book, target, waiters, to);
        add(to, " for it since %.1f s in ", (double)(now_ns - entry->since_ns) * 1e-9);
        add_place(&entry->state, to);
        add(to, " (");
        if (counts_alike(book, witness, target))
            add(to, "%s number %llu; ", waiters == 1 ? "its" : "their",
                (unsigned long long)entry->state.number);
    }
    add(to, "its last was %llu, ", (unsigned long long)last->number);
    add_place(last, to);
    add(to, "%s)", last->activity == PR_WATCH_IDLE ? ", idle since" : "");
}

// ---- Judging ----

static int64_t silence_ns(const pr_watch_book *book, int32_t rank, int64_t now_ns)
{
    const book_rank *entry = &book->rank[rank];
    return entry->judged && !entry->lost_ns ? now_ns - entry->heard_ns : 0;
}

static int32_t find_most_silent(const pr_watch_book *book, int64_t now_ns)
{
    int32_t found = 0;
    for (int32_t r = 1; r < book->ranks; r++) {
        if (silence_ns(book, r, now_ns) > silence_ns(book, found, now_ns))
            found = r;
    }
    return found;
}

// A node that is gone takes several ranks along: their last reports are a moment apart.
static void add_other_silent(const pr_watch_book *book, int32_t rank, int64_t now_ns, line *to)
{
    int32_t named = 0, more = 0;
    for (int32_t r = 0; r < book->ranks; r++) {
        if (r == rank || silence_ns(book, r, now_ns) < book->limit_ns * 3 / 4)
            continue;
        if (named == MOST_NAMED)
            more++;
        else
            add(to, "%s %d", named++ > 0 ? "," : "; nor does rank", (int)r);
    }
    if (more > 0)
        add(to, " and %d more", (int)more);
}

static void tell_silent(const pr_watch_book *book, int32_t rank, int64_t now_ns, char *text)
{
    line to = {.text = text};
    add_rank(book, rank, &to);
    add(&to, " does not answer since %.1f s: ", (double)silence_ns(book, rank, now_ns) * 1e-9);
    add_evidence(book, rank, now_ns, &to);
    add_other_silent(book, rank, now_ns, &to);
}

static bool find_lost(pr_watch_book *book, int64_t now_ns, char *text)
{
    for (int32_t r = 0; r < book->ranks; r++) {
        book_rank *entry = &book->rank[r];
        if (!entry->judged || entry->lost_ns == 0 ||
            now_ns - entry->lost_ns <= LOST_PATIENCE_MS * INT64_C(1000000))
            continue;
        line to = {.text = text};
        add_rank(book, r, &to);
        add(&to, " is lost: ");
        add_evidence(book, r, now_ns, &to);
        entry->judged = false;
        return true;
    }
    return false;
}

// Whom a rank that has waited for long waits for in the end: a rank that does not wait, or -1: one that is
// not judged, or nobody (they wait for each other).
static int32_t find_end_of_chain(const pr_watch_book *book, int32_t rank)
{
    for (int32_t hops = 0; hops < book->ranks; hops++) {
        if (!book->rank[rank].judged || book->rank[rank].lost_ns)
            return -1;
        if (!waits(&book->rank[rank]))
            return rank;
        rank = book->rank[rank].state.peer;
        if (rank < 0 || rank >= book->ranks)
            return -1;
    }
    return -1;
}

static bool find_slow(pr_watch_book *book, int64_t now_ns, char *text)
{
    for (int32_t r = 0; r < book->ranks; r++) {
        if (!waits(&book->rank[r]) || now_ns - book->rank[r].since_ns <= book->limit_ns)
            continue;
        int32_t slow = find_end_of_chain(book, r);
        if (slow < 0 || book->rank[slow].slow_number == book->rank[slow].state.number + 1)
            continue;
        line to = {.text = text};
        book->rank[slow].slow_number = book->rank[slow].state.number + 1;
        add_rank(book, slow, &to);
        add(&to, " computes for long, or hangs outside of its waits: ");
        add_evidence(book, slow, now_ns, &to);
        return true;
    }
    return false;
}

pr_watch_verdict
pr_watch_book_judge(pr_watch_book *book, int64_t now_ns, char text[PR_WATCH_TEXT_BYTES])
{
    if (find_lost(book, now_ns, text))
        return PR_WATCH_LOST;
    if (book->limit_ns == 0)
        return PR_WATCH_FINE;
    int32_t rank = find_most_silent(book, now_ns);
    int64_t silent_ns = silence_ns(book, rank, now_ns);
    if (silent_ns > book->limit_ns) {
        tell_silent(book, rank, now_ns, text);
        return PR_WATCH_STUCK;
    }
    if (silent_ns > book->limit_ns / 2 && !book->rank[rank].warned) {
        book->rank[rank].warned = true;
        tell_silent(book, rank, now_ns, text);
        return PR_WATCH_STRANGE;
    }
    return find_slow(book, now_ns, text) ? PR_WATCH_STRANGE : PR_WATCH_FINE;
}
