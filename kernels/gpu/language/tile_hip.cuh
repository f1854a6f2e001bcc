// SPDX-License-Identifier: BSD-3-Clause
// tile.cuh for hipcc: v_mfma_f32_16x16x16bf16_1k of gfx90a and gfx94x. Included by tile.cuh alone.
// Source: AMD matrix instruction calculator. With c = lane % 16, q = lane / 16 a lane holds
//   A    (row, k) = (c, 4q..4q+3)        B    (k, column) = (4q..4q+3, c)        sum  (row, column) = (4q+i, c)
#ifndef PR_GPU_LANGUAGE_TILE_HIP_CUH
#define PR_GPU_LANGUAGE_TILE_HIP_CUH

typedef short gpu_tile_shorts __attribute__((ext_vector_type(4)));
typedef float gpu_tile_quad __attribute__((ext_vector_type(4)));

enum { GPU_TILE_A_ROWS = 1 };

struct gpu_tile_a {
    uint32_t word[2];
};
struct gpu_tile_b {
    uint32_t word[2];
};
struct gpu_tile_floats {
    float value[4];
};

GPU_FUNCTION int gpu_tile_row(int i) { return gpu_lane() / 16 * 4 + i; }
GPU_FUNCTION int gpu_tile_column(int) { return gpu_lane() % 16; }

// Four of k, in a row of memory.
GPU_FUNCTION void gpu_tile_fetch(uint32_t word[2], const gpu_bf16 *from, int stride)
{
    const gpu_bf16 *at = from + gpu_lane() % 16 * stride + gpu_lane() / 16 * 4;
    uint2 four = *reinterpret_cast<const uint2 *>(at);
    word[0] = four.x;
    word[1] = four.y;
}

GPU_FUNCTION void gpu_tile_load_a(gpu_tile_a &a, const gpu_bf16 *from, int stride)
{
    gpu_tile_fetch(a.word, from, stride);
}
GPU_FUNCTION void gpu_tile_load_b(gpu_tile_b &b, const gpu_bf16 *from, int stride)
{
    gpu_tile_fetch(b.word, from, stride);
}
GPU_FUNCTION void gpu_tile_load_b_across(gpu_tile_b &b, const gpu_bf16 *from, int stride)
{
    const gpu_bf16 *at = from + gpu_lane() / 16 * 4 * stride + gpu_lane() % 16;
    b.word[0] = (uint32_t)at[0] | (uint32_t)at[stride] << 16;
    b.word[1] = (uint32_t)at[2 * stride] | (uint32_t)at[3 * stride] << 16;
}

GPU_FUNCTION int gpu_tile_a_row(int) { return gpu_lane() % 16; }

GPU_FUNCTION void
gpu_tile_load_rows(gpu_tile_a &a, const gpu_bf16 *const row[GPU_TILE_A_ROWS], int k)
{
    uint2 four = *reinterpret_cast<const uint2 *>(row[0] + k + gpu_lane() / 16 * 4);
    a.word[0] = four.x;
    a.word[1] = four.y;
}

GPU_FUNCTION void
gpu_tile_load_floats(gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k)
{
    const float2 *from = reinterpret_cast<const float2 *>(row[0] + k + gpu_lane() / 16 * 4);
    f = gpu_tile_floats{{from[0].x, from[0].y, from[1].x, from[1].y}};
}

GPU_FUNCTION void gpu_tile_load_floats_part(
    gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k, int depth)
{
    GPU_UNROLL
    for (int i = 0; i < 4; i++) {
        int j = gpu_lane() / 16 * 4 + i;
        f.value[i] = j < depth ? row[0][k + j] : 0.0f;
    }
}

GPU_FUNCTION void gpu_tile_round(gpu_tile_a &a, const gpu_tile_floats &f)
{
    a.word[0] = gpu_to_bf16_pair(f.value[0], f.value[1]);
    a.word[1] = gpu_to_bf16_pair(f.value[2], f.value[3]);
}

GPU_FUNCTION gpu_tile_shorts gpu_tile_operand(const uint32_t word[2])
{
    return gpu_tile_shorts{
        (short)word[0], (short)(word[0] >> 16), (short)word[1], (short)(word[1] >> 16)};
}

GPU_FUNCTION void gpu_tile_multiply(gpu_tile_sum &c, const gpu_tile_a &a, const gpu_tile_b &b)
{
    gpu_tile_quad sum = {c.value[0], c.value[1], c.value[2], c.value[3]};
    sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(
        gpu_tile_operand(a.word), gpu_tile_operand(b.word), sum, 0, 0, 0);
    GPU_UNROLL
    for (int i = 0; i < 4; i++)
        c.value[i] = sum[i];
}

// A wants four columns of one row, a sum has four rows of one column: element j comes from lane 4q + j of the sixteen
// that hold row c, whose value c % 4 it is.
GPU_FUNCTION void gpu_tile_a_of_sum(gpu_tile_a &a, const gpu_tile_sum &c)
{
    uint32_t low = gpu_to_bf16_pair(c.value[0], c.value[1]),
             high = gpu_to_bf16_pair(c.value[2], c.value[3]);
    int row = gpu_lane() % 16, first = row / 4 * 16 + gpu_lane() / 16 * 4;
    uint32_t element[4];
    GPU_UNROLL
    for (int j = 0; j < 4; j++) {
        uint32_t of_low = gpu_shuffle(low, first + j), of_high = gpu_shuffle(high, first + j);
        element[j] = ((row % 4 < 2 ? of_low : of_high) >> row % 2 * 16) & 0xffffu;
    }
    a.word[0] = element[0] | element[1] << 16;
    a.word[1] = element[2] | element[3] << 16;
}

#endif
