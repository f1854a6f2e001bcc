// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_packed.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_state.h"
#include "runtime/base/log.h"

// Another name wherever the bytes of any packing change: tests/kernel/test_packed.c tells.
const char pr_cpu_packed_layout[] = "cpu-panels-1";

// What a task reads at once: few calls, and several tasks for every thread.
enum { PIECE_BYTES = 2 << 20, SHORT_PIECE_BYTES = 256 << 10 };

typedef struct load_work {
    const pr_packed_source *source;
    pr_matrix whole;
    const pr_matrix *part;
    size_t offset, size_bytes;  // of the part's slices in a panel of the whole
    int64_t task_panels;
    char *staging;  // [threads][staging_bytes]: two panels
    size_t staging_bytes;
    atomic_bool failed;
} load_work;

size_t pr_cpu_packed_bytes(const pr_packed_shape *shape)
{
    pr_matrix matrix = pr_cpu_matrix_of(shape);
    return (size_t)pr_matrix_panels(&matrix) * matrix.panel_bytes;
}

const void *pr_cpu_packed_of(const pr_matrix *matrix) { return matrix->panels; }

static void get(load_work *work, const char *from, void *to, size_t size_bytes)
{
    const pr_byte_reader *reader = work->source->reader;
    if (reader == NULL)
        memcpy(to, from, size_bytes);
    else if (!reader->read(reader->context, from, to, size_bytes))
        atomic_store(&work->failed, true);
}

static const char *stored_panel(const load_work *work, int64_t panel)
{
    return (const char *)work->source->data + (size_t)panel * work->whole.panel_bytes;
}

// ---- one piece -------------------------------------------------------------------------------

static void load_piece(void *context, int64_t task, int32_t thread)
{
    load_work *work = context;
    size_t all = (size_t)pr_matrix_panels(work->part) * work->part->panel_bytes;
    size_t begin = (size_t)task * PIECE_BYTES, left = all - begin;
    (void)thread;
    get(work, stored_panel(work, work->source->row_begin / PR_PANEL) + begin,
        work->part->panels + begin, left < PIECE_BYTES ? left : PIECE_BYTES);
}

// ---- a piece of every panel ------------------------------------------------------------------

static void load_slices(void *context, int64_t task, int32_t thread)
{
    load_work *work = context;
    int64_t end = (task + 1) * work->task_panels, panels = pr_matrix_panels(work->part);
    (void)thread;
    for (int64_t panel = task * work->task_panels; panel < end && panel < panels; panel++)
        get(work, stored_panel(work, work->source->row_begin / PR_PANEL + panel) + work->offset,
            work->part->panels + (size_t)panel * work->part->panel_bytes, work->size_bytes);
}

// ---- lanes of two panels ---------------------------------------------------------------------

// Lanes [from_lane, from_lane + lanes) of the vectors of `from` to lane to_lane on of those of `to`.
static void move_lanes(
    const load_work *work,
    const char *from,
    char *to,
    size_t from_lane,
    size_t to_lane,
    size_t lanes)
{
    int32_t of_four, of_two;
    pr_cpu_matrix_unit_vectors(work->whole.packing, &of_four, &of_two);
    for (size_t at = 0; at < work->size_bytes;) {
        for (int32_t i = 0; i < of_four + of_two; i++) {
            size_t lane_bytes = i < of_four ? 4 : 2;
            memcpy(
                to + at + to_lane * lane_bytes, from + at + from_lane * lane_bytes,
                lanes * lane_bytes);
            at += PR_PANEL * lane_bytes;
        }
    }
}

static size_t least(int64_t a, int64_t b) { return (size_t)(a < b ? a : b); }

static void load_lanes(void *context, int64_t panel, int32_t thread)
{
    load_work *work = context;
    char *staged = work->staging + (size_t)thread * work->staging_bytes;
    char *packed = work->part->panels + (size_t)panel * work->part->panel_bytes;
    int64_t row = work->source->row_begin + panel * PR_PANEL;
    int64_t rows = work->source->row_end - row, first = row % PR_PANEL;
    size_t lanes = least(rows, PR_PANEL), here = least((int64_t)lanes, PR_PANEL - first);
    get(work, stored_panel(work, row / PR_PANEL) + work->offset, staged, work->size_bytes);
    move_lanes(work, staged, packed, (size_t)first, 0, here);
    if (here < lanes) {
        get(work, stored_panel(work, row / PR_PANEL + 1) + work->offset, staged, work->size_bytes);
        move_lanes(work, staged, packed, 0, here, lanes - here);
    }
}

// ---- the door --------------------------------------------------------------------------------

static pr_status check(const pr_packed_source *source)
{
    const pr_packed_shape *shape = &source->shape;
    bool slices = shape->slices == 1 || shape->slices == PR_SLICES;
    if (slices && shape->rows >= 0 && shape->cols >= 0 && source->row_begin >= 0 &&
        source->row_begin <= source->row_end && source->row_end <= shape->rows &&
        source->slice_begin >= 0 && source->slice_begin < source->slice_end &&
        source->slice_end <= shape->slices)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "packed matrix part of rows %lld..%lld of %lld, slices %d..%d of %d makes no sense",
        (long long)source->row_begin, (long long)source->row_end, (long long)shape->rows,
        source->slice_begin, source->slice_end, shape->slices);
}

// The end of the whole counts as a multiple of 16: its last panel is filled up alike.
static bool has_whole_panels(const pr_packed_source *source)
{
    return source->row_begin % PR_PANEL == 0 &&
           (source->row_end % PR_PANEL == 0 || source->row_end == source->shape.rows);
}

static pr_matrix part_of(const pr_packed_source *source, const pr_matrix *whole)
{
    pr_packed_shape shape = source->shape;
    shape.rows = source->row_end - source->row_begin;
    shape.cols = pr_matrix_slice_begin(whole, source->slice_end) -
                 pr_matrix_slice_begin(whole, source->slice_begin);
    shape.slices = source->slice_end - source->slice_begin;
    return pr_cpu_matrix_of(&shape);
}

static pr_status fill(pr_device *device, load_work *work)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    int64_t panels = pr_matrix_panels(work->part);
    bool all_slices = work->part->slices == work->whole.slices;
    if (!has_whole_panels(work->source)) {
        PR_TRY(pr_cpu_staging_reserve(device, work->size_bytes));
        work->staging = state->staging;
        work->staging_bytes = state->staging_bytes;
        pr_cpu_team_run(state->team, load_lanes, work, panels);
    } else if (all_slices) {
        size_t all = (size_t)panels * work->part->panel_bytes;
        pr_cpu_team_run(
            state->team, load_piece, work, (int64_t)((all + PIECE_BYTES - 1) / PIECE_BYTES));
    } else {
        work->task_panels = (int64_t)(SHORT_PIECE_BYTES / (work->size_bytes + 1)) + 1;
        pr_cpu_team_run(
            state->team, load_slices, work, (panels + work->task_panels - 1) / work->task_panels);
    }
    return atomic_load(&work->failed) ? PR_ERR_IO : PR_OK;
}

pr_status pr_cpu_packed_load(pr_device *device, const pr_packed_source *source, pr_matrix **matrix)
{
    PR_TRY(check(source));
    pr_matrix *made = malloc(sizeof *made);
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a matrix");
    load_work work = {.source = source, .whole = pr_cpu_matrix_of(&source->shape), .part = made};
    *made = part_of(source, &work.whole);
    work.offset = pr_cpu_matrix_slice_offset(&work.whole, source->slice_begin);
    work.size_bytes = pr_cpu_matrix_slice_offset(&work.whole, source->slice_end) - work.offset;
    if (source->reader == NULL && made->slices == work.whole.slices && has_whole_panels(source)) {
        made->in_place = true;
        made->panels = (char *)(uintptr_t)stored_panel(&work, source->row_begin / PR_PANEL);
        *matrix = made;
        return PR_OK;
    }
    pr_status status = pr_cpu_matrix_take_panels(device, made);
    if (status == PR_OK)
        status = fill(device, &work);
    if (status != PR_OK) {
        pr_cpu_matrix_destroy(device, made);
        return status;
    }
    *matrix = made;
    return PR_OK;
}
