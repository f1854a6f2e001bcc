// SPDX-License-Identifier: BSD-3-Clause
// Attention on bfloat16 KV by tiles of 16 packed rows: the one loop behind decode and prefill.
//
//              K, V of a span: 64 positions x D in shared memory, BUFFERS pieces deep: K0 V0 K1 V1 ...
//              +------+------+------+------+
//   Q  16 x D  |  S 0    S 1    S 2    S 3 |   16 x 64 scores -> maximum, P = exp(S - m) in bfloat16
//              +------+------+------+------+
//   O += P V   16 x D, l += P 1   (a tile of ones: l sums the very weights that V gets, by the same instruction)
//
// A block has ROWS x COLUMNS warps; the warps of a row have TALL row tiles. One warp alone (prefill) has all of S and O
// in registers. Several (decode, or D 256) cut S by positions and O by columns, and exchange maxima and P through
// shared memory. With two row tiles a warp loads each tile of K and V once for both, and Q again for each span.
// None of it changes what is added to what: an element of S is a sum over tiles of D ascending, one of O over tiles
// of positions ascending, l grows span by span, and a maximum does not depend on the order. So a row's bits do not depend
// on the shape.
//
// A span that a row does not see leaves its state as it is: scores are -infinity, exp is 0, the rescaling is by 1.
// Rows of K and V beyond what the work sees are zeros. Head sizes below D are filled with zeros.
// Cost: prefill 4 D flops a packed row and position; decode reads each K and V of a KV head once for 16 packed rows.
#ifndef PR_GPU_ATTENTION_TILE_CUH
#define PR_GPU_ATTENTION_TILE_CUH

#include "kernels/gpu/attention/attention_part.cuh"
#include "kernels/gpu/language/tile.cuh"

// The values of a lane in a sum stand in SLOTS rows; the 16 columns of a row are spread over SIDES lanes in a line.
enum { ATTENTION_SLOTS = GPU_WARP == 32 ? 2 : 4, ATTENTION_SIDES = GPU_WARP == 32 ? 4 : 16 };

GPU_FUNCTION int attention_slot(int value) { return GPU_WARP == 32 ? value / 2 % 2 : value; }
GPU_FUNCTION int attention_value(int slot) { return GPU_WARP == 32 ? slot * 2 : slot; }

template <int HEAD, int COLUMN_WARPS, int ROW_WARPS, int ROW_TILES, int DEPTH>
struct attention_shape {
    static constexpr int D = HEAD, COLUMNS = COLUMN_WARPS, ROWS = ROW_WARPS, TALL = ROW_TILES;
    static constexpr int WARPS = COLUMNS * ROWS, THREADS = WARPS * GPU_WARP;
    static constexpr int PACKED = ROWS * TALL * GPU_TILE;
    static constexpr int TILES = D / GPU_TILE, OWN = TILES / COLUMNS;
    static constexpr int SPAN_TILES = ATTENTION_SPAN / GPU_TILE, SPAN_OWN = SPAN_TILES / COLUMNS;
    static constexpr int STRIDE = D + 8, P_STRIDE = ATTENTION_SPAN + 8;  // no conflicts of banks
    static constexpr int BUFFERS = DEPTH, PIECE = ATTENTION_SPAN * STRIDE, RING = BUFFERS * PIECE;
    // Q in registers: its place in shared memory is the ring's afterwards.
    static constexpr bool KEEPS_Q = TALL == 1;
    static constexpr int Q = PACKED * STRIDE, LARGER = RING > Q ? RING : Q;
    static constexpr int STAGE = KEEPS_Q ? LARGER : RING + Q;
    static_assert(TILES % COLUMNS == 0 && SPAN_TILES % COLUMNS == 0, "warps have equal shares");
    static_assert(TALL == 1 || COLUMNS == 1, "P in shared memory is of one row tile");
};

template <class S> struct attention_shared {
    alignas(16) gpu_bf16 stage[S::STAGE];  // the ring of K and V, and Q: before it, or behind it
    alignas(16) gpu_bf16 p[S::COLUMNS == 1 ? 8 : S::ROWS * GPU_TILE * S::P_STRIDE];
    alignas(16) gpu_bf16 one[GPU_TILE];
    float maximum[S::ROWS][S::COLUMNS][GPU_TILE];
    // Each thread's own, used once a part: registers are for what a span needs.
    attention_total total[S::TALL][ATTENTION_SLOTS][S::THREADS];
};

// One row tile, as a warp has it in registers.
template <class S> struct attention_rows {
    gpu_tile_sum o[S::OWN];
    float maximum[ATTENTION_SLOTS], l[ATTENTION_SLOTS];
};

template <class S> struct attention_state {
    attention_rows<S> rows[S::TALL];
    gpu_tile_a q[S::KEEPS_Q ? S::TILES : 1];
    int last_position;  // of the warp's rows, -1: it has none
    int piece;          // of the ring: the next one
};

GPU_FUNCTION void attention_clear(gpu_tile_sum &sum)
{
    GPU_UNROLL
    for (int i = 0; i < GPU_TILE_VALUES; i++)
        sum.value[i] = 0.0f;
}

template <class S> GPU_FUNCTION int attention_row_warp() { return gpu_warp() / S::COLUMNS; }
template <class S> GPU_FUNCTION int attention_column() { return gpu_warp() % S::COLUMNS; }

// The first packed row of a row tile of this warp.
template <class S> GPU_FUNCTION int attention_tile_begin(const attention_work &work, int tile)
{
    return work.begin + (attention_row_warp<S>() * S::TALL + tile) * GPU_TILE;
}

// ---- Q ----

template <class S>
GPU_FUNCTION void
attention_stage_q(const pr_gpu_attention_args &args, const attention_work &work, gpu_bf16 *stage)
{
    int d = args.head_size;
    for (int row = gpu_warp(); row < S::PACKED; row += S::WARPS) {
        bool is_row = work.begin + row < work.end;
        int packed = is_row ? work.begin + row : work.begin;
        const float *q = args.q + attention_row_at(args, work.kv_head, work.group, packed);
        for (int e = 2 * gpu_lane(); e < S::D; e += 2 * GPU_WARP) {
            uint32_t pair = 0;
            if (is_row && e < d)
                pair = gpu_to_bf16_pair(q[e] * args.scale, q[e + 1] * args.scale);
            *(uint32_t *)(stage + row * S::STRIDE + e) = pair;
        }
    }
}

template <class S> GPU_FUNCTION gpu_bf16 *attention_stage_of_q()
{
    return gpu_shared<attention_shared<S>>().stage + (S::KEEPS_Q ? 0 : S::RING);
}

// Operand i of a row tile's Q.
template <class S> GPU_FUNCTION void attention_load_q(gpu_tile_a &q, int tile, int i)
{
    int row = (attention_row_warp<S>() * S::TALL + tile) * GPU_TILE;
    gpu_tile_load_a(q, attention_stage_of_q<S>() + row * S::STRIDE + i * GPU_TILE, S::STRIDE);
}

template <class S>
GPU_FUNCTION void attention_place_rows(
    const pr_gpu_attention_args &args, const attention_work &work, attention_state<S> &state)
{
    auto &total = gpu_shared<attention_shared<S>>().total;
    for (int i = 0; i < S::TALL * ATTENTION_SLOTS; i++)
        total[i / ATTENTION_SLOTS][i % ATTENTION_SLOTS][gpu_thread()] =
            attention_total{attention_nothing(), 0.0f};
    int first = attention_tile_begin<S>(work, 0), end = first + S::TALL * GPU_TILE;
    end = end < work.end ? end : work.end;
    state.last_position = first < end ? args.position[(end - 1) / work.group] : -1;
}

// ---- K and V ----

// Rows from..: `rows` of them from memory, the rest of ATTENTION_PAGE_ROWS (or fewer, if a warp has fewer) zeros.
template <class S, int COUNT>
GPU_FUNCTION void attention_copy_rows(const gpu_bf16 *from, int rows, int d, gpu_bf16 *to)
{
    constexpr int RUN = 8, RUNS = S::D / RUN, TURNS = (COUNT * RUNS + GPU_WARP - 1) / GPU_WARP;
    if (d % RUN != 0) {
        for (int i = gpu_lane(); i < COUNT * d; i += GPU_WARP)
            to[i / d * S::STRIDE + i % d] = i / d < rows ? from[i] : (gpu_bf16)0;
        return;
    }
    GPU_UNROLL
    for (int turn = 0; turn < TURNS; turn++) {
        int i = turn * GPU_WARP + gpu_lane(), row = i / RUNS, e = i % RUNS * RUN;
        if (row >= COUNT || e >= d)
            continue;
        if (row < rows)
            gpu_copy16_begin(to + row * S::STRIDE + e, from + row * d + e);
        else
            gpu_store16(to + row * S::STRIDE + e, gpu_bytes16{});
    }
}

GPU_FUNCTION int attention_piece_position(const attention_work &work, int piece)
{
    return work.part_begin * PR_GPU_ATTENTION_PART + piece / 2 * ATTENTION_SPAN;
}

// Begins the copy of a piece: K of a span if even, V if odd. Each warp has rows of its own.
template <class S>
GPU_FUNCTION void attention_copy_piece(
    const pr_gpu_attention_args &args, const attention_work &work, int piece, gpu_bf16 *to)
{
    constexpr int OWN = ATTENTION_SPAN / S::WARPS;
    constexpr int COUNT = OWN < ATTENTION_PAGE_ROWS ? OWN : ATTENTION_PAGE_ROWS;
    const gpu_bf16 *pages = (const gpu_bf16 *)(piece % 2 == 0 ? args.k_pages : args.v_pages);
    int first = attention_piece_position(work, piece);
    GPU_UNROLL
    for (int row = 0; row < OWN; row += COUNT) {
        int at = gpu_warp() * OWN + row, rows = work.positions - (first + at);
        const gpu_bf16 *from = rows > 0 ? pages + attention_page_at(args, work, first + at) : pages;
        attention_copy_rows<S, COUNT>(from, rows, args.head_size, to + at * S::STRIDE);
    }
}

template <class S>
GPU_FUNCTION void
attention_ring_fill(const pr_gpu_attention_args &args, const attention_work &work, int piece)
{
    gpu_bf16 *stage = gpu_shared<attention_shared<S>>().stage;
    if (attention_piece_position(work, piece) < work.positions)
        attention_copy_piece<S>(args, work, piece, stage + piece % S::BUFFERS * S::PIECE);
    gpu_copy16_commit();
}

template <class S>
GPU_FUNCTION void attention_ring_begin(
    const pr_gpu_attention_args &args, const attention_work &work, attention_state<S> &state)
{
    state.piece = 0;
    gpu_bf16 *stage = gpu_shared<attention_shared<S>>().stage;
    int d = args.head_size, pad = S::D - d;
    for (int i = gpu_thread(); i < S::BUFFERS * ATTENTION_SPAN * pad; i += S::THREADS)
        stage[i / pad * S::STRIDE + d + i % pad] = 0;
    for (int piece = 0; piece < S::BUFFERS - 1; piece++)
        attention_ring_fill<S>(args, work, piece);
}

// The next piece, and its buffer's predecessor is given away.
template <class S>
GPU_FUNCTION const gpu_bf16 *attention_ring_next(
    const pr_gpu_attention_args &args, const attention_work &work, attention_state<S> &state)
{
    if constexpr (S::BUFFERS == 1) {
        gpu_barrier();
        attention_ring_fill<S>(args, work, state.piece);
        gpu_copy16_wait<0>();
        gpu_barrier();
    } else {
        gpu_copy16_wait<S::BUFFERS - 2>();
        gpu_barrier();
        attention_ring_fill<S>(args, work, state.piece + S::BUFFERS - 1);
    }
    int piece = state.piece++;
    return gpu_shared<attention_shared<S>>().stage + piece % S::BUFFERS * S::PIECE;
}

// ---- One span ----

template <class S>
GPU_FUNCTION void attention_score(
    const attention_state<S> &state, const gpu_bf16 *k, gpu_tile_sum s[S::TALL][S::SPAN_OWN])
{
    const gpu_bf16 *own = k + attention_column<S>() * S::SPAN_OWN * GPU_TILE * S::STRIDE;
    GPU_UNROLL
    for (int tile = 0; tile < S::TALL; tile++) {
        GPU_UNROLL
        for (int j = 0; j < S::SPAN_OWN; j++)
            attention_clear(s[tile][j]);
    }
    GPU_UNROLL
    for (int i = 0; i < S::TILES; i++) {
        gpu_tile_a q[S::TALL];
        GPU_UNROLL
        for (int tile = 0; tile < S::TALL; tile++) {
            if constexpr (S::KEEPS_Q)
                q[tile] = state.q[i];
            else
                attention_load_q<S>(q[tile], tile, i);
        }
        GPU_UNROLL
        for (int j = 0; j < S::SPAN_OWN; j++) {
            gpu_tile_b b;
            gpu_tile_load_b(b, own + j * GPU_TILE * S::STRIDE + i * GPU_TILE, S::STRIDE);
            GPU_UNROLL
            for (int tile = 0; tile < S::TALL; tile++)
                gpu_tile_multiply(s[tile][j], q[tile], b);
        }
    }
}

// first: the span's first position. Later ones than a row's own are nothing to it, and all if there is no such row.
template <class S>
GPU_FUNCTION void attention_mask(
    const pr_gpu_attention_args &args,
    const attention_work &work,
    int tile,
    int first,
    gpu_tile_sum s[S::SPAN_OWN])
{
    int own = first + attention_column<S>() * S::SPAN_OWN * GPU_TILE;
    int seen[ATTENTION_SLOTS];  // of the positions that this warp has
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        int row = attention_tile_begin<S>(work, tile) + gpu_tile_row(attention_value(slot));
        seen[slot] = row < work.end ? args.position[row / work.group] - own : -1;
    }
    GPU_UNROLL
    for (int j = 0; j < S::SPAN_OWN; j++) {
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_VALUES; i++) {
            if (j * GPU_TILE + gpu_tile_column(i) > seen[attention_slot(i)])
                s[j].value[i] = attention_nothing();
        }
    }
}

// Of each row, over the span and what was before.
template <class S>
GPU_FUNCTION void attention_maximum(
    const attention_rows<S> &rows, const gpu_tile_sum s[S::SPAN_OWN], float larger[ATTENTION_SLOTS])
{
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++)
        larger[slot] = rows.maximum[slot];
    GPU_UNROLL
    for (int j = 0; j < S::SPAN_OWN; j++) {
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_VALUES; i++)
            larger[attention_slot(i)] = gpu_larger(larger[attention_slot(i)], s[j].value[i]);
    }
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        GPU_UNROLL
        for (int mask = 1; mask < ATTENTION_SIDES; mask *= 2)
            larger[slot] = gpu_larger(larger[slot], gpu_shuffle_xor(larger[slot], mask));
    }
    if constexpr (S::COLUMNS > 1) {
        auto &maximum = gpu_shared<attention_shared<S>>().maximum[attention_row_warp<S>()];
        GPU_UNROLL
        for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
            if (gpu_lane() % ATTENTION_SIDES == 0)
                maximum[attention_column<S>()][gpu_tile_row(attention_value(slot))] = larger[slot];
        }
        gpu_barrier();
        GPU_UNROLL
        for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
            for (int column = 0; column < S::COLUMNS; column++)
                larger[slot] =
                    gpu_larger(larger[slot], maximum[column][gpu_tile_row(attention_value(slot))]);
        }
    }
}

// Moves the state to new maxima. Most spans bring none: multiplying by 1 is left out.
template <class S>
GPU_FUNCTION void attention_rescale(attention_rows<S> &rows, const float larger[ATTENTION_SLOTS])
{
    float rescale[ATTENTION_SLOTS];
    bool moves = false;
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        rescale[slot] = attention_exp(rows.maximum[slot] - larger[slot]);
        moves = moves || rescale[slot] != 1.0f;
        rows.maximum[slot] = larger[slot];
        rows.l[slot] = rows.l[slot] * rescale[slot];
    }
    if (gpu_ballot(moves) == 0)
        return;
    GPU_UNROLL
    for (int i = 0; i < GPU_TILE_VALUES; i++) {
        GPU_UNROLL
        for (int n = 0; n < S::OWN; n++)
            rows.o[n].value[i] = rows.o[n].value[i] * rescale[attention_slot(i)];
    }
}

// P of the whole span as operands, from the scores that this warp has of it.
template <class S>
GPU_FUNCTION void attention_weigh(
    const attention_rows<S> &rows, gpu_tile_sum s[S::SPAN_OWN], gpu_tile_a p[S::SPAN_TILES])
{
    GPU_UNROLL
    for (int j = 0; j < S::SPAN_OWN; j++) {
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_VALUES; i++)
            s[j].value[i] = attention_exp(s[j].value[i] - rows.maximum[attention_slot(i)]);
    }
    if constexpr (S::COLUMNS == 1) {
        GPU_UNROLL
        for (int j = 0; j < S::SPAN_TILES; j++)
            gpu_tile_a_of_sum(p[j], s[j]);
    } else {
        gpu_bf16 *shared =
            gpu_shared<attention_shared<S>>().p + attention_row_warp<S>() * GPU_TILE * S::P_STRIDE;
        gpu_bf16 *own = shared + attention_column<S>() * S::SPAN_OWN * GPU_TILE;
        GPU_UNROLL
        for (int j = 0; j < S::SPAN_OWN; j++) {
            GPU_UNROLL
            for (int i = 0; i < GPU_TILE_VALUES; i++)
                own[gpu_tile_row(i) * S::P_STRIDE + j * GPU_TILE + gpu_tile_column(i)] =
                    gpu_to_bf16(s[j].value[i]);
        }
        gpu_barrier();
        GPU_UNROLL
        for (int j = 0; j < S::SPAN_TILES; j++)
            gpu_tile_load_a(p[j], shared + j * GPU_TILE, S::P_STRIDE);
    }
}

// l += the span's P: every column of P times a tile of ones is the sum of the row.
template <class S>
GPU_FUNCTION void
attention_count(attention_rows<S> &rows, const gpu_tile_a p[S::SPAN_TILES], const gpu_tile_b &one)
{
    gpu_tile_sum sum;
    attention_clear(sum);
    GPU_UNROLL
    for (int j = 0; j < S::SPAN_TILES; j++)
        gpu_tile_multiply(sum, p[j], one);
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++)
        rows.l[slot] = rows.l[slot] + sum.value[attention_value(slot)];
}

template <class S>
GPU_FUNCTION void attention_gather(
    attention_state<S> &state, const gpu_tile_a p[S::TALL][S::SPAN_TILES], const gpu_bf16 *v)
{
    const gpu_bf16 *own = v + attention_column<S>() * S::OWN * GPU_TILE;
    gpu_tile_b one;
    gpu_tile_load_b(one, gpu_shared<attention_shared<S>>().one, 0);
    GPU_UNROLL
    for (int tile = 0; tile < S::TALL; tile++)
        attention_count<S>(state.rows[tile], p[tile], one);
    GPU_UNROLL
    for (int j = 0; j < S::SPAN_TILES; j++) {
        GPU_UNROLL
        for (int n = 0; n < S::OWN; n++) {
            gpu_tile_b b;
            gpu_tile_load_b_across(b, own + j * GPU_TILE * S::STRIDE + n * GPU_TILE, S::STRIDE);
            GPU_UNROLL
            for (int tile = 0; tile < S::TALL; tile++)
                gpu_tile_multiply(state.rows[tile].o[n], p[tile][j], b);
        }
    }
}

template <class S>
GPU_FUNCTION void attention_span(
    const pr_gpu_attention_args &args,
    const attention_work &work,
    attention_state<S> &state,
    int first)
{
    gpu_tile_sum s[S::TALL][S::SPAN_OWN];
    gpu_tile_a p[S::TALL][S::SPAN_TILES];
    // A warp that has its rows alone passes by what none of them sees.
    bool sees = S::COLUMNS > 1 || first <= state.last_position;
    // All rows see at least all but PACKED positions.
    bool masks = first + ATTENTION_SPAN + S::PACKED > work.positions;
    const gpu_bf16 *k = attention_ring_next<S>(args, work, state);
    if (sees) {
        attention_score<S>(state, k, s);
        GPU_UNROLL
        for (int tile = 0; tile < S::TALL; tile++) {
            attention_rows<S> &rows = state.rows[tile];
            float larger[ATTENTION_SLOTS];
            if (masks)
                attention_mask<S>(args, work, tile, first, s[tile]);
            attention_maximum<S>(rows, s[tile], larger);
            attention_rescale<S>(rows, larger);
            attention_weigh<S>(rows, s[tile], p[tile]);
        }
    }
    const gpu_bf16 *v = attention_ring_next<S>(args, work, state);
    if (sees)
        attention_gather<S>(state, p, v);
}

// ---- One part, and all of them ----

// Where a packed row's part goes.
GPU_FUNCTION float *
attention_place(const attention_plan &plan, const attention_work &work, int row, int part)
{
    const pr_gpu_attention_args &args = plan.args;
    if (!work.partial)
        return args.out + attention_row_at(args, work.kv_head, work.group, row);
    int head = work.kv_head * work.group + row % work.group;
    return args.partial + attention_partial(plan, work.slot, head, part) * args.head_size;
}

template <class S>
GPU_FUNCTION void attention_leave_sums(
    const attention_plan &plan,
    const attention_work &work,
    const attention_rows<S> &rows,
    int first,
    int part)
{
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        int value = attention_value(slot), row = first + gpu_tile_row(value);
        if (row >= work.end || gpu_tile_column(value) != 0 || attention_column<S>() != 0)
            continue;
        int head = work.kv_head * work.group + row % work.group;
        float *sums =
            attention_partial_sums(plan) + 2 * attention_partial(plan, work.slot, head, part);
        sums[0] = rows.maximum[slot];
        sums[1] = rows.l[slot];
    }
}

// Puts a finished part where it belongs: `partial`, or `out`, which holds the parts before it, not yet divided.
template <class S>
GPU_FUNCTION void attention_settle(
    const attention_plan &plan,
    const attention_work &work,
    const attention_rows<S> &rows,
    int tile,
    int part)
{
    int first = attention_tile_begin<S>(work, tile);
    bool is_first = part == 0 || work.partial;
    bool is_last = part + 1 == work.part_end && !work.partial;
    int own = attention_column<S>() * S::OWN * GPU_TILE;
    if (work.partial)
        attention_leave_sums<S>(plan, work, rows, first, part);
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        int row = first + gpu_tile_row(attention_value(slot));
        attention_total &total = gpu_shared<attention_shared<S>>().total[tile][slot][gpu_thread()];
        attention_weights weights = attention_total_add(total, rows.maximum[slot], rows.l[slot]);
        float inverse = 1.0f / total.sum;
        if (row >= work.end)
            continue;
        float *to = attention_place(plan, work, row, part) + own;
        GPU_UNROLL
        for (int n = 0; n < S::OWN; n++) {
            GPU_UNROLL
            for (int i = 0; i < GPU_TILE_VALUES; i++) {
                int e = n * GPU_TILE + gpu_tile_column(i);
                if (attention_slot(i) != slot || own + e >= plan.args.head_size)
                    continue;
                float o = rows.o[n].value[i];
                if (!is_first)
                    o = attention_merged(weights, to[e], o);
                to[e] = is_last ? attention_finished(o, inverse) : o;
            }
        }
    }
}

template <class S> GPU_FUNCTION void attention_part_begin(attention_rows<S> &rows)
{
    GPU_UNROLL
    for (int n = 0; n < S::OWN; n++)
        attention_clear(rows.o[n]);
    GPU_UNROLL
    for (int slot = 0; slot < ATTENTION_SLOTS; slot++) {
        rows.maximum[slot] = attention_nothing();
        rows.l[slot] = 0.0f;
    }
}

template <class S>
GPU_FUNCTION void attention_begin(
    const pr_gpu_attention_args &args, const attention_work &work, attention_state<S> &state)
{
    auto &shared = gpu_shared<attention_shared<S>>();
    gpu_barrier();  // the work before this one has read its last piece
    attention_stage_q<S>(args, work, attention_stage_of_q<S>());
    if (gpu_thread() < GPU_TILE)
        shared.one[gpu_thread()] = 0x3f80;
    attention_place_rows<S>(args, work, state);
    gpu_barrier();
    if constexpr (S::KEEPS_Q) {
        GPU_UNROLL
        for (int i = 0; i < S::TILES; i++)
            attention_load_q<S>(state.q[i], 0, i);
        gpu_barrier();
    }
    attention_ring_begin<S>(args, work, state);
}

// By all of the block.
template <class S>
GPU_FUNCTION void attention_tiles(const attention_plan &plan, const attention_work &work)
{
    attention_state<S> state;
    attention_begin<S>(plan.args, work, state);
    for (int part = work.part_begin; part < work.part_end; part++) {
        GPU_UNROLL
        for (int tile = 0; tile < S::TALL; tile++)
            attention_part_begin<S>(state.rows[tile]);
        int first = part * PR_GPU_ATTENTION_PART, end = first + PR_GPU_ATTENTION_PART;
        end = end < work.positions ? end : work.positions;
        for (; first < end; first += ATTENTION_SPAN)
            attention_span<S>(plan.args, work, state, first);
        GPU_UNROLL
        for (int tile = 0; tile < S::TALL; tile++)
            attention_settle<S>(plan, work, state.rows[tile], tile, part);
    }
}

#endif
