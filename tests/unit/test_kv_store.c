// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"
#include "runtime/cache/kv_store.h"

static const pr_kv_store_params good = {
    .layers = 3,
    .blocks = 5,
    .block_tokens = 32,
    .kv_heads = 2,
    .head_size = 8,
    .first_head = 4,
    .dtype = PR_BF16,
};

static pr_device *open_device(void)
{
    pr_device *device;
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "reference", .threads = 1}, &device),
        PR_OK);
    return device;
}

static void pages_lie_side_by_side_without_overlap(void **state)
{
    (void)state;
    pr_device *device = open_device();
    pr_kv_store *store;
    assert_int_equal(pr_kv_store_create(device, &good, &store), PR_OK);
    assert_int_equal(store->head_bytes, 32 * 8 * 2);
    assert_int_equal(store->page_bytes, 2 * 32 * 8 * 2);
    assert_int_equal(pr_kv_store_block_bytes(&good), 3 * 2 * store->page_bytes);
    char *expected = store->memory;
    for (int32_t layer = 0; layer < 3; layer++) {
        for (int32_t stream = 0; stream < PR_KV_STREAMS; stream++) {
            for (int32_t block = 0; block < 5; block++) {
                assert_ptr_equal(pr_kv_store_page(store, layer, stream, block), expected);
                expected += store->page_bytes;
            }
        }
    }
    assert_int_equal(expected - store->memory, 5 * pr_kv_store_block_bytes(&good));
    pr_kv_store_destroy(store);
    pr_cpu_device_close(device);
}

static void copy_takes_all_layers_and_streams_and_nothing_else(void **state)
{
    (void)state;
    pr_device *device = open_device();
    pr_kv_store *store;
    assert_int_equal(pr_kv_store_create(device, &good, &store), PR_OK);
    for (int32_t page = 0; page < 3 * PR_KV_STREAMS * 5; page++)
        memset(store->memory + (size_t)page * store->page_bytes, page + 1, store->page_bytes);
    pr_kv_store_copy(store, 1, 4);
    for (int32_t page = 0; page < 3 * PR_KV_STREAMS * 5; page++) {
        int32_t right = page % 5 == 4 ? page - 3 + 1 : page + 1;
        const char *bytes = store->memory + (size_t)page * store->page_bytes;
        for (size_t i = 0; i < store->page_bytes; i++)
            assert_int_equal(bytes[i], right);
    }
    pr_kv_store_destroy(store);
    pr_cpu_device_close(device);
}

static uint32_t layout_of(pr_device *device, pr_kv_store_params params)
{
    pr_kv_store *store;
    assert_int_equal(pr_kv_store_create(device, &params, &store), PR_OK);
    uint32_t id = pr_kv_store_layout_id(store);
    pr_kv_store_destroy(store);
    return id;
}

static void layouts_match_when_pages_of_a_head_do(void **state)
{
    (void)state;
    pr_device *device = open_device();
    uint32_t id = layout_of(device, good);
    pr_kv_store_params other = good;
    other.kv_heads = 1, other.first_head = 0, other.blocks = 9;  // another tp and pool
    assert_int_equal(layout_of(device, other), id);
    other = good, other.dtype = PR_F32;
    assert_int_not_equal(layout_of(device, other), id);
    other = good, other.block_tokens = 16;
    assert_int_not_equal(layout_of(device, other), id);
    other = good, other.head_size = 16;
    assert_int_not_equal(layout_of(device, other), id);
    other = good, other.layers = 2;
    assert_int_not_equal(layout_of(device, other), id);
    pr_cpu_device_close(device);
}

static void stores_that_cannot_be_are_refused(void **state)
{
    (void)state;
    pr_device *device = open_device();
    pr_kv_store *store;
    pr_kv_store_params bad = good;
    pr_error_capture_begin();
    bad.block_tokens = 24;
    assert_int_equal(pr_kv_store_create(device, &bad, &store), PR_ERR_ARGUMENT);
    assert_string_equal(pr_error_text(), "block size 24: use a multiple of 16");
    bad = good, bad.blocks = 0;
    assert_int_equal(pr_kv_store_create(device, &bad, &store), PR_ERR_ARGUMENT);
    bad = good, bad.head_size = 7;
    assert_int_equal(pr_kv_store_create(device, &bad, &store), PR_ERR_ARGUMENT);
    bad = good, bad.dtype = PR_F16;
    assert_int_equal(pr_kv_store_create(device, &bad, &store), PR_ERR_UNSUPPORTED);
    bad = good, bad.blocks = INT32_MAX, bad.layers = 1 << 20, bad.head_size = 1 << 20;
    assert_int_equal(pr_kv_store_create(device, &bad, &store), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    pr_cpu_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_lie_side_by_side_without_overlap),
        cmocka_unit_test(copy_takes_all_layers_and_streams_and_nothing_else),
        cmocka_unit_test(layouts_match_when_pages_of_a_head_do),
        cmocka_unit_test(stores_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
