// SPDX-License-Identifier: BSD-3-Clause
#include "gpu_under_test.h"

#include <stdlib.h>

enum { BLOCKS = 23 };

typedef struct shape {
    int32_t pages, kv_heads, head_begin, heads;
    size_t head_bytes;
    size_t shift_bytes;  // of the slab from an aligned place
} shape;

// No pages, no heads, one of each, ranges, more than one cut of a block, sizes and places that 16 does not divide.
static const shape shapes[] = {
    {0, 2, 0, 2, 64, 0},    {3, 2, 1, 0, 64, 0},    {1, 1, 0, 1, 16, 0},    {7, 4, 1, 2, 512, 0},
    {23, 4, 3, 1, 4096, 0}, {5, 3, 0, 3, 16384, 0}, {2, 2, 0, 2, 32752, 0}, {2, 1, 0, 1, 32784, 0},
    {7, 3, 1, 2, 40, 0},    {3, 5, 2, 3, 1031, 0},  {4, 2, 1, 1, 512, 8},   {3, 2, 0, 2, 4099, 1},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static unsigned char *random_bytes(size_t n, uint64_t seed)
{
    unsigned char *bytes = malloc(n + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (unsigned char)(seed >> 56);
    }
    return bytes;
}

// Pages in an order of their own, each once: what is scattered twice to one place is nobody's.
static void list_pages(const shape *s, int32_t page[BLOCKS])
{
    for (int32_t i = 0; i < s->pages; i++)
        page[i] = (i * 9 + 5) % BLOCKS;
}

// What the kernels should do: to or from the slab, one byte after the other.
static void move_plainly(
    const shape *s, const int32_t *page, unsigned char *pages, unsigned char *slab, bool gather)
{
    size_t piece = (size_t)s->heads * s->head_bytes,
           page_bytes = (size_t)s->kv_heads * s->head_bytes;
    for (int32_t i = 0; i < s->pages; i++) {
        unsigned char *in_pages =
            pages + (size_t)page[i] * page_bytes + (size_t)s->head_begin * s->head_bytes;
        unsigned char *in_slab = slab + (size_t)i * piece;
        memcpy(gather ? in_slab : in_pages, gather ? in_pages : in_slab, piece);
    }
}

static void
move_and_compare(const pr_gpu_backend *gpu, pr_gpu_stream *stream, const shape *s, bool gather)
{
    int32_t page[BLOCKS];
    list_pages(s, page);
    size_t page_bytes = (size_t)s->kv_heads * s->head_bytes;
    size_t all_bytes = BLOCKS * page_bytes;
    size_t slab_bytes = (size_t)(s->pages * s->heads) * s->head_bytes + s->shift_bytes;
    unsigned char *pages = random_bytes(all_bytes, 1), *slab = random_bytes(slab_bytes, 2);
    void *on_pages = gpu_under_test_put(gpu, stream, pages, all_bytes);
    void *on_slab = gpu_under_test_put(gpu, stream, slab, slab_bytes);
    void *on_page = gpu_under_test_put(gpu, stream, page, sizeof(page));
    pr_gpu_slab_args args = {
        .pages = s->pages,
        .page = on_page,
        .pages_memory = on_pages,
        .page_bytes = page_bytes,
        .head_bytes = s->head_bytes,
        .head_begin = s->head_begin,
        .heads = s->heads,
        .slab = (unsigned char *)on_slab + s->shift_bytes,
    };
    if (gather)
        gpu->operations->slab_gather(stream, &args);
    else
        gpu->operations->slab_scatter(stream, &args);
    move_plainly(s, page, pages, slab + s->shift_bytes, gather);
    unsigned char *got_pages = malloc(all_bytes + 1), *got_slab = malloc(slab_bytes + 1);
    gpu_under_test_get(gpu, stream, got_pages, on_pages, all_bytes);
    gpu_under_test_get(gpu, stream, got_slab, on_slab, slab_bytes);
    assert_memory_equal(got_pages, pages, all_bytes);
    assert_memory_equal(got_slab, slab, slab_bytes);
    void *on_device[] = {on_pages, on_slab, on_page};
    void *on_host[] = {pages, slab, got_pages, got_slab};
    for (size_t i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
        gpu->memory_release(on_device[i]);
    for (size_t i = 0; i < sizeof(on_host) / sizeof(on_host[0]); i++)
        free(on_host[i]);
}

static void a_range_of_heads_goes_to_the_slab_and_nothing_else_changes(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++)
            move_and_compare(all.gpu[g], all.stream[g], &shapes[i], true);
    }
    gpu_under_test_close(&all);
}

static void a_slab_goes_to_its_heads_and_nothing_else_changes(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++)
            move_and_compare(all.gpu[g], all.stream[g], &shapes[i], false);
    }
    gpu_under_test_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_of_heads_goes_to_the_slab_and_nothing_else_changes),
        cmocka_unit_test(a_slab_goes_to_its_heads_and_nothing_else_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
