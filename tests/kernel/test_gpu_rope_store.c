// SPDX-License-Identifier: BSD-3-Clause
// rope_store against the CPU reference, element by element: the pages of a GPU have another order (HND).
#include "devices.h"
#include "gpu_under_test.h"

enum { BLOCKS = 7, POSITIONS = 96 };

typedef struct shape {
    int32_t tokens, query_heads, kv_heads, head_size, block_tokens;
    bool norms, bf16;
} shape;

// Head sizes of runs of 8 pairs and others, below and above 16 lanes; counts of heads around those of a block.
static const shape shapes[] = {
    {0, 2, 1, 16, 16, true, true},    {1, 1, 1, 2, 16, false, true},
    {5, 4, 2, 8, 16, true, true},     {17, 4, 4, 16, 16, true, true},
    {3, 7, 1, 20, 48, true, false},   {13, 6, 2, 38, 16, true, true},
    {16, 8, 4, 32, 16, true, true},   {15, 3, 3, 64, 32, false, true},
    {31, 4, 2, 64, 16, true, false},  {7, 5, 1, 128, 32, true, true},
    {11, 2, 2, 256, 16, true, false}, {2, 14, 2, 80, 16, true, true},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

typedef struct data {
    float *q, *k, *v, *q_norm, *k_norm, *cosine, *sine;
    int32_t position[POSITIONS], block[POSITIONS];
    size_t query, kv, table, pages;  // elements
} data;

static data make_data(const shape *s)
{
    size_t d = (size_t)s->head_size, t = (size_t)s->tokens;
    data of = {
        .query = t * (size_t)s->query_heads * d,
        .kv = t * (size_t)s->kv_heads * d,
        .table = POSITIONS * (d / 2),
        .pages = BLOCKS * (size_t)s->kv_heads * (size_t)s->block_tokens * d,
    };
    of.q = random_floats(of.query, 1);
    of.k = random_floats(of.kv, 2);
    of.v = random_floats(of.kv, 3);
    of.q_norm = random_floats(d, 4);
    of.k_norm = random_floats(d, 5);
    of.cosine = random_floats(of.table, 6);
    of.sine = random_floats(of.table, 7);
    for (int32_t i = 0; i < s->tokens; i++) {
        of.position[i] = (i * 29 + 3) % POSITIONS;
        of.block[i] = of.position[i] / s->block_tokens;
    }
    return of;
}

static void free_data(data *of)
{
    float *all[] = {of->q, of->k, of->v, of->q_norm, of->k_norm, of->cosine, of->sine};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

typedef struct result {
    float *q;
    void *k_pages, *v_pages;
} result;

static result take_result(const data *of)
{
    result to = {malloc(of->query * 4 + 1), malloc(of->pages * 4 + 1), malloc(of->pages * 4 + 1)};
    assert_true(to.q != NULL && to.k_pages != NULL && to.v_pages != NULL);
    return to;
}

static void free_result(result *of)
{
    free(of->q);
    free(of->k_pages);
    free(of->v_pages);
}

static result store_on_cpu(pr_device *device, const shape *s, const data *of)
{
    result to = take_result(of);
    float *k = malloc(of->kv * 4 + 1);
    memcpy(to.q, of->q, of->query * 4);
    memcpy(k, of->k, of->kv * 4);
    memset(to.k_pages, 0xa5, of->pages * 4);
    memset(to.v_pages, 0xa5, of->pages * 4);
    pr_rope_store_args args = {
        .tokens = s->tokens,
        .query_heads = s->query_heads,
        .kv_heads = s->kv_heads,
        .head_size = s->head_size,
        .q = to.q,
        .k = k,
        .v = of->v,
        .q_norm = s->norms ? of->q_norm : NULL,
        .k_norm = s->norms ? of->k_norm : NULL,
        .epsilon = 1e-5f,
        .cosine = of->cosine,
        .sine = of->sine,
        .position = of->position,
        .block = of->block,
        .block_tokens = s->block_tokens,
        .kv_dtype = s->bf16 ? PR_BF16 : PR_F32,
        .k_pages = to.k_pages,
        .v_pages = to.v_pages,
    };
    device->rope_store(device, &args);
    free(k);
    return to;
}

static result
store_on_gpu(const pr_gpu_backend *gpu, pr_gpu_stream *stream, const shape *s, const data *of)
{
    result to = take_result(of);
    size_t d = (size_t)s->head_size, page_bytes = of->pages * (s->bf16 ? 2 : 4);
    void *memory[] = {
        gpu_under_test_put(gpu, stream, of->q, of->query * 4),
        gpu_under_test_put(gpu, stream, of->k, of->kv * 4),
        gpu_under_test_put(gpu, stream, of->v, of->kv * 4),
        gpu_under_test_put(gpu, stream, of->q_norm, d * 4),
        gpu_under_test_put(gpu, stream, of->k_norm, d * 4),
        gpu_under_test_put(gpu, stream, of->cosine, of->table * 4),
        gpu_under_test_put(gpu, stream, of->sine, of->table * 4),
        gpu_under_test_put(gpu, stream, of->position, sizeof(of->position)),
        gpu_under_test_put(gpu, stream, of->block, sizeof(of->block)),
        gpu_under_test_take(gpu, stream, page_bytes),
        gpu_under_test_take(gpu, stream, page_bytes),
    };
    pr_gpu_rope_store_args args = {
        .tokens = s->tokens,
        .query_heads = s->query_heads,
        .kv_heads = s->kv_heads,
        .head_size = s->head_size,
        .q = memory[0],
        .k = memory[1],
        .v = memory[2],
        .q_norm = s->norms ? memory[3] : NULL,
        .k_norm = s->norms ? memory[4] : NULL,
        .epsilon = 1e-5f,
        .cosine = memory[5],
        .sine = memory[6],
        .position = memory[7],
        .block = memory[8],
        .block_tokens = s->block_tokens,
        .kv_is_bf16 = s->bf16,
        .k_pages = memory[9],
        .v_pages = memory[10],
    };
    gpu->operations->rope_store(stream, &args);
    gpu_under_test_get(gpu, stream, to.q, memory[0], of->query * 4);
    gpu_under_test_get(gpu, stream, to.k_pages, memory[9], page_bytes);
    gpu_under_test_get(gpu, stream, to.v_pages, memory[10], page_bytes);
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        gpu->memory_release(memory[i]);
    return to;
}

// Where the CPU has the element (block, head, slot, e) of K and of V (runtime/device.h).
static size_t cpu_k_place(const shape *s, int32_t block, int32_t head, int32_t slot, int32_t e)
{
    int32_t d = s->head_size, b = s->block_tokens;
    size_t tile =
        ((size_t)(block * s->kv_heads + head) * (size_t)b + (size_t)(slot / 16 * 16)) * (size_t)d;
    if (!s->bf16)
        return tile + (size_t)(e * 16 + slot % 16);
    return tile + (size_t)((e / 2 * 16 + slot % 16) * 2 + e % 2);
}

static size_t cpu_v_place(const shape *s, int32_t block, int32_t head, int32_t slot, int32_t e)
{
    int32_t d = s->head_size, b = s->block_tokens;
    size_t page = (size_t)(block * s->kv_heads + head) * (size_t)b * (size_t)d;
    if (!s->bf16)
        return page + (size_t)(slot * d + e);
    return page + (size_t)((slot / 2 * d + e) * 2 + slot % 2);
}

static void compare_pages(const shape *s, const result *cpu, const result *gpu)
{
    size_t width = s->bf16 ? 2 : 4, i = 0;
    const char *cpu_k = cpu->k_pages, *cpu_v = cpu->v_pages, *k = gpu->k_pages, *v = gpu->v_pages;
    for (int32_t block = 0; block < BLOCKS; block++) {
        for (int32_t row = 0; row < s->kv_heads * s->block_tokens; row++) {
            int32_t head = row / s->block_tokens, slot = row % s->block_tokens;
            for (int32_t e = 0; e < s->head_size; e++, i++) {
                size_t k_place = cpu_k_place(s, block, head, slot, e);
                size_t v_place = cpu_v_place(s, block, head, slot, e);
                assert_memory_equal(k + i * width, cpu_k + k_place * width, width);
                assert_memory_equal(v + i * width, cpu_v + v_place * width, width);
            }
        }
    }
}

static void q_and_pages_have_the_bits_of_the_reference_and_unwritten_places_stay(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    devices cpus = open_devices();
    for (size_t i = 0; i < SHAPES; i++) {
        const shape *s = &shapes[i];
        data of = make_data(s);
        result expected = store_on_cpu(cpus.device[0], s, &of);
        for (int g = 0; g < all.count; g++) {
            result got = store_on_gpu(all.gpu[g], all.stream[g], s, &of);
            assert_memory_equal(got.q, expected.q, of.query * 4);
            compare_pages(s, &expected, &got);
            free_result(&got);
        }
        free_result(&expected);
        free_data(&of);
    }
    close_devices(&cpus);
    gpu_under_test_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q_and_pages_have_the_bits_of_the_reference_and_unwritten_places_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
