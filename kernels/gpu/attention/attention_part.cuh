// SPDX-License-Identifier: BSD-3-Clause
// What all paths of attention have in common: how the work is cut, and how parts of a sequence become one row.
//
//   positions   |  span 0  |  span 1  | ... |  span 7 ||  span 8 | ...            64 positions each
//               |             part 0                  ||   part 1  ...           512 positions each
//
// A part has its own maximum m, sum l and output o, from nothing; parts are merged ascending, by attention_total_add and
// attention_merged, whoever computed them: one block after another in one loop, or blocks beside each other through
// `partial` and a kernel of its own. So cutting a row's parts over blocks, or not, changes no bit of it.
//
// Packed rows: the query heads of one KV head and a token stand together, group = h / g of them: packed row
// token * group + i is query head kv_head * group + i.
#ifndef PR_GPU_ATTENTION_PART_CUH
#define PR_GPU_ATTENTION_PART_CUH

#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum { ATTENTION_SPAN = 64, ATTENTION_PAGE_ROWS = 16 };

// How the host cuts a step. A slot is a token, or, where only segments of one row are short, a segment.
struct attention_plan {
    pr_gpu_attention_args args;
    bool slot_is_token;
    int slots;
    int short_rows;  // segments of at most so many rows go row by row, longer ones by tiles of many
    bool split;      // parts of short segments are blocks of their own, through `partial`
    int parts;       // of the longest sequence
};

// Packed rows [begin, end) of one segment and one KV head, parts [part_begin, part_end) of their positions.
struct attention_work {
    int slot, kv_head, group;
    int first_block;  // of the segment's block table
    int begin, end;
    int part_begin, part_end;
    int positions;  // that the last row sees, up to the end of the parts
    bool partial;   // the result is one part's, for the merge
};

// pr_exp of x <= 0, or 0 for NaN (no maximum yet): 2^n is added to the exponent, which stays a normal number's.
GPU_FUNCTION float attention_exp(float x)
{
    float shifted = gpu_fma(x, 1.44269504088896341f, 12582912.0f);
    float p = gpu_exp_fraction(x, shifted - 12582912.0f);
    float result = gpu_from_bits(gpu_bits(p) + (gpu_bits(shifted) << 23));
    return x >= -87.0f ? result : 0.0f;
}

GPU_FUNCTION float attention_nothing() { return gpu_from_bits(0xff800000u); }  // -infinity

// ---- Parts into a row ----

struct attention_total {
    float maximum, sum;
};
struct attention_weights {
    float keep, add;  // of what is there, of the part
};

GPU_FUNCTION attention_weights attention_total_add(attention_total &total, float maximum, float sum)
{
    float larger = gpu_larger(total.maximum, maximum);
    attention_weights weights = {
        attention_exp(total.maximum - larger), attention_exp(maximum - larger)};
    total.sum = gpu_fma(sum, weights.add, total.sum * weights.keep);
    total.maximum = larger;
    return weights;
}

GPU_FUNCTION float attention_merged(attention_weights weights, float total, float part)
{
    return gpu_fma(part, weights.add, total * weights.keep);
}

GPU_FUNCTION float attention_finished(float total, float inverse_sum)
{
    return total * inverse_sum + 0.0f;
}

// ---- Where things are ----

// partial: [slots][h][parts][d] outputs, then [slots][h][parts] of {maximum, sum}.
GPU_FUNCTION int64_t attention_partial(const attention_plan &plan, int slot, int head, int part)
{
    return ((int64_t)slot * plan.args.query_heads + head) * plan.parts + part;
}

GPU_FUNCTION float *attention_partial_sums(const attention_plan &plan)
{
    return plan.args.partial + attention_partial(plan, plan.slots, 0, 0) * plan.args.head_size;
}

// Of a packed row, in q and out.
GPU_FUNCTION int64_t
attention_row_at(const pr_gpu_attention_args &args, int kv_head, int group, int row)
{
    int64_t head = (int64_t)kv_head * group + row % group;
    return ((int64_t)(row / group) * args.query_heads + head) * args.head_size;
}

// Of a position's element 0 in the K and V pages; the next positions of its 16 follow it.
GPU_FUNCTION int64_t
attention_page_at(const pr_gpu_attention_args &args, const attention_work &work, int position)
{
    int64_t block = args.blocks[work.first_block + position / args.block_tokens];
    int64_t row = (block * args.kv_heads + work.kv_head) * args.block_tokens;
    return (row + position % args.block_tokens) * args.head_size;
}

// The token and segment of a slot; false: it is not a short one.
GPU_FUNCTION bool attention_slot_of(const attention_plan &plan, int slot, int &token, int &segment)
{
    segment = plan.slot_is_token ? plan.args.segment_of[slot] : slot;
    token = plan.slot_is_token ? slot : plan.args.segment[slot].first_row;
    int rows = plan.args.segment[segment].rows;
    return rows > 0 && rows <= plan.short_rows;
}

#endif
