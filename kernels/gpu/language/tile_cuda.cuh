// SPDX-License-Identifier: BSD-3-Clause
// tile.cuh for nvcc: mma.sync and ldmatrix of sm_80 and newer. Included by tile.cuh alone.
// Source: PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix". With g = lane / 4, t = lane % 4 a lane holds
//   A    word 0..3: (row, k..k+1) = (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8)
//   B    word 0..3: (k..k+1, column) = (2t, g) (2t+8, g) (2t, g+8) (2t+8, g+8): two instructions, 8 columns each
//   sum  value 0..7: (row, column) = (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1), then the same of columns 8-15
#ifndef PR_GPU_LANGUAGE_TILE_CUDA_CUH
#define PR_GPU_LANGUAGE_TILE_CUDA_CUH

enum { GPU_TILE_A_ROWS = 2 };

struct gpu_tile_a {
    uint32_t word[4];
};
struct gpu_tile_b {
    uint32_t word[4];
};
struct gpu_tile_floats {
    float value[8];
};

GPU_FUNCTION int gpu_tile_row(int i) { return gpu_lane() / 4 + (i / 2 % 2) * 8; }
GPU_FUNCTION int gpu_tile_column(int i) { return gpu_lane() % 4 * 2 + i % 2 + i / 4 * 8; }

// Four 8 x 8 matrices, whose rows lanes 0-7, 8-15, 16-23 and 24-31 point to.
GPU_FUNCTION void gpu_tile_fetch(uint32_t word[4], const gpu_bf16 *row)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(from)
                 : "memory");
}

GPU_FUNCTION void gpu_tile_fetch_across(uint32_t word[4], const gpu_bf16 *row)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(from)
                 : "memory");
}

GPU_FUNCTION void gpu_tile_load_a(gpu_tile_a &a, const gpu_bf16 *from, int stride)
{
    int lane = gpu_lane();
    gpu_tile_fetch(a.word, from + lane % 16 * stride + lane / 16 * 8);
}

GPU_FUNCTION void gpu_tile_load_b(gpu_tile_b &b, const gpu_bf16 *from, int stride)
{
    int lane = gpu_lane();
    gpu_tile_fetch(b.word, from + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
}

GPU_FUNCTION void gpu_tile_load_b_across(gpu_tile_b &b, const gpu_bf16 *from, int stride)
{
    int lane = gpu_lane();
    gpu_tile_fetch_across(b.word, from + lane % 16 * stride + lane / 16 * 8);
}

GPU_FUNCTION uint32_t gpu_tile_pair(const gpu_bf16 *from)
{
    return *reinterpret_cast<const uint32_t *>(from);
}

GPU_FUNCTION int gpu_tile_a_row(int i) { return gpu_lane() / 4 + i * 8; }

GPU_FUNCTION void
gpu_tile_load_rows(gpu_tile_a &a, const gpu_bf16 *const row[GPU_TILE_A_ROWS], int k)
{
    GPU_UNROLL
    for (int i = 0; i < 4; i++)
        a.word[i] = gpu_tile_pair(row[i % 2] + k + gpu_lane() % 4 * 2 + i / 2 * 8);
}

GPU_FUNCTION void
gpu_tile_load_floats(gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k)
{
    GPU_UNROLL
    for (int i = 0; i < 4; i++) {
        const float *from = row[i % 2] + k + gpu_lane() % 4 * 2 + i / 2 * 8;
        float2 pair = *reinterpret_cast<const float2 *>(from);
        f.value[2 * i] = pair.x;
        f.value[2 * i + 1] = pair.y;
    }
}

GPU_FUNCTION void gpu_tile_load_floats_part(
    gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k, int depth)
{
    GPU_UNROLL
    for (int i = 0; i < 8; i++) {
        int j = gpu_lane() % 4 * 2 + i / 4 * 8 + i % 2;
        f.value[i] = j < depth ? row[i / 2 % 2][k + j] : 0.0f;
    }
}

GPU_FUNCTION uint32_t gpu_tile_rounded(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

GPU_FUNCTION void gpu_tile_round(gpu_tile_a &a, const gpu_tile_floats &f)
{
    GPU_UNROLL
    for (int i = 0; i < 4; i++)
        a.word[i] = gpu_tile_rounded(f.value[2 * i], f.value[2 * i + 1]);
}

GPU_FUNCTION void gpu_tile_multiply_half(float c[4], const gpu_tile_a &a, uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
}

GPU_FUNCTION void gpu_tile_multiply(gpu_tile_sum &c, const gpu_tile_a &a, const gpu_tile_b &b)
{
    gpu_tile_multiply_half(c.value, a, b.word[0], b.word[1]);
    gpu_tile_multiply_half(c.value + 4, a, b.word[2], b.word[3]);
}

// The pairs of a sum stand where A wants them.
GPU_FUNCTION void gpu_tile_a_of_sum(gpu_tile_a &a, const gpu_tile_sum &c)
{
    GPU_UNROLL
    for (int i = 0; i < 4; i++)
        a.word[i] = gpu_tile_rounded(c.value[2 * i], c.value[2 * i + 1]);
}

#endif
