// SPDX-License-Identifier: BSD-3-Clause
// A GPU as a device: what lies where in its memory, and a forward pass that the host cannot help with.
#include <stdlib.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/gpu/gpu_device.h"
#include "kernels/gpu/gpu_matrix.h"
#include "runtime/model/forward.h"
#include "runtime/parallel_staged.h"
#include "tests/kernel/gpu_fence.h"

enum { LARGE_BYTES = (9 << 20) + 5 };

static gpus_under_test gpus;

static pr_device *open_device(const pr_gpu_backend *backend)
{
    pr_device *device;
    const pr_gpu_device_params params = {.backend = backend, .threads = 2};
    assert_int_equal(pr_gpu_device_open(&params, &device), PR_OK);
    return device;
}

static float noise(size_t i) { return (float)((i * 2654435761u >> 8) % 2048) / 1024 - 1; }

// ---- Memory ----

static void copies_take_any_size_and_leave_the_source_free(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4097, LARGE_BYTES};
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        for (size_t s = 0; s < 2 * sizeof sizes / sizeof *sizes; s++) {
            size_t bytes = sizes[s / 2];
            void *a, *b, *pinned = NULL;
            char *from = malloc(bytes), *to = malloc(bytes), *right = malloc(bytes);
            for (size_t i = 0; i < bytes; i++)
                right[i] = (char)(i * 7 + i / 251 + s);
            assert_int_equal(device->memory_take(device, bytes, &a), PR_OK);
            assert_int_equal(device->memory_take(device, bytes, &b), PR_OK);
            assert_int_equal(device->host_take(device, bytes, &pinned), PR_OK);
            char *source = s % 2 ? pinned : from;
            memcpy(source, right, bytes);
            assert_int_equal(device->copy_in(device, a, source, bytes), PR_OK);
            memset(source, 0, bytes);
            device->copy(device, b, a, bytes);
            assert_int_equal(device->copy_out(device, to, b, bytes), PR_OK);
            assert_memory_equal(to, right, bytes);
            device->memory_release(device, a);
            device->memory_release(device, b);
            device->host_release(device, pinned);
            free(from);
            free(to);
            free(right);
        }
        pr_gpu_device_close(device);
        assert_int_equal(fence.pieces, 0);
    }
}

// ---- Weights ----

static float stored_value(pr_dtype dtype, const void *data, size_t i)
{
    return pr_dtype_load(dtype, data, i);
}

// [rows][cols] of the type, row-major, with values that each type has.
static void *make_stored(pr_dtype dtype, size_t elements)
{
    char *data = malloc(elements * 4);
    for (size_t i = 0; i < elements; i++) {
        float value = (float)(int32_t)(noise(i) * 8) / 8 + (float)(i % 3);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        uint16_t bf16 = (uint16_t)(bits >> 16);
        uint16_t f16 = (uint16_t)(0x3c00u | (i % 1024));  // 1..2
        if (dtype == PR_F32)
            memcpy(data + 4 * i, &value, 4);
        else
            memcpy(data + 2 * i, dtype == PR_BF16 ? &bf16 : &f16, 2);
    }
    return data;
}

static int reads_left;

static bool read_bytes(void *context, const void *from, void *to, size_t size_bytes)
{
    (void)context;
    if (reads_left == 0)
        return false;
    memcpy(to, from, size_bytes);
    return true;
}

static const pr_byte_reader reader = {.read = read_bytes};

// Compares device rows of `stride` elements with the part they are made of, zeros behind it.
static void check_rows(
    pr_device *device, const pr_matrix_source *part, const void *data, bool is_bf16, int64_t stride)
{
    int64_t rows = part->row_end - part->row_begin, cols = part->col_end - part->col_begin;
    size_t bytes = (size_t)(rows * stride) * (is_bf16 ? 2 : 4);
    char *copy = malloc(bytes + 1);
    assert_int_equal(device->copy_out(device, copy, data, bytes), PR_OK);
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t k = 0; k < stride; k++) {
            size_t at = (size_t)((part->row_begin + n) * part->stride + part->col_begin + k);
            float want = k < cols ? stored_value(part->dtype, part->data, at) : 0;
            float got = pr_dtype_load(is_bf16 ? PR_BF16 : PR_F32, copy, (size_t)(n * stride + k));
            if (want != got)
                fail_msg(
                    "row %d, column %d: %g, not %g", (int)n, (int)k, (double)got, (double)want);
        }
    }
    free(copy);
}

static void matrices_lie_in_rows_filled_up_with_zeros(void **state)
{
    (void)state;
    enum { ROWS = 150, COLS = 200 };
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        for (int i = 0; i < 16; i++) {
            pr_dtype dtype = (pr_dtype)(i % 3);
            pr_matrix_source part = {
                .data = make_stored(dtype, ROWS * COLS),
                .reader = i % 2 ? &reader : NULL,
                .dtype = dtype,
                .stride = COLS,
                .row_begin = i < 8 ? 0 : 17,
                .row_end = i < 8 ? ROWS : 18 + i,
                .col_begin = i < 8 ? 0 : 50,
                .col_end = i < 8 ? COLS : 178,
                .slices = i < 8 ? 1 : 8,
                .quantization = i % 5 == 4 ? PR_QUANTIZATION_FLOAT32 : PR_QUANTIZATION_NONE,
            };
            pr_matrix *matrix;
            reads_left = -1;
            assert_int_equal(device->matrix_create(device, &part, &matrix), PR_OK);
            bool is_bf16 = dtype == PR_BF16 && part.quantization == PR_QUANTIZATION_NONE;
            assert_int_equal(matrix->weights.is_bf16, is_bf16);
            assert_int_equal(matrix->weights.stride, i < 8 ? 256 : 128);
            check_rows(device, &part, matrix->weights.data, is_bf16, matrix->weights.stride);
            device->matrix_destroy(device, matrix);
            free((void *)(uintptr_t)part.data);
        }
        pr_gpu_device_close(device);
    }
}

static void experts_matrices_lie_one_after_another(void **state)
{
    (void)state;
    enum { EXPERTS = 3, ROWS = 9, COLS = 70 };
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        char *data = make_stored(PR_BF16, EXPERTS * ROWS * COLS);
        pr_matrix_source part = {
            .dtype = PR_BF16, .stride = COLS, .row_end = ROWS, .col_end = COLS, .slices = 1};
        const pr_packed_shape shape = pr_packed_shape_of(&part);
        pr_matrix *matrix[EXPERTS];
        assert_int_equal(device->stack_create(device, &shape, EXPERTS, &part.stack), PR_OK);
        for (int e = EXPERTS - 1; e >= 0; e--) {
            part.data = data + 2 * e * ROWS * COLS;
            part.stack_place = e;
            assert_int_equal(device->matrix_create(device, &part, &matrix[e]), PR_OK);
        }
        for (int e = 0; e < EXPERTS; e++) {
            part.data = data + 2 * e * ROWS * COLS;
            check_rows(device, &part, matrix[e]->weights.data, true, 128);
            assert_int_equal(
                (const char *)matrix[e]->weights.data - (const char *)matrix[0]->weights.data,
                e * 2 * 128 * 128);
        }
        part.dtype = PR_F32;
        pr_matrix *other;
        pr_error_capture_begin();
        assert_int_equal(device->matrix_create(device, &part, &other), PR_ERR_UNSUPPORTED);
        pr_error_capture_end();
        for (int e = 0; e < EXPERTS; e++)
            device->matrix_destroy(device, matrix[e]);
        device->stack_destroy(device, part.stack);
        free(data);
        pr_gpu_device_close(device);
    }
}

static void tables_of_rows_are_bfloat16_or_wide(void **state)
{
    (void)state;
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        for (int i = 0; i < 3; i++) {
            pr_matrix_source part = {
                .data = make_stored((pr_dtype)i, 11 * 37),
                .dtype = (pr_dtype)i,
                .stride = 37,
                .row_end = 11,
                .col_end = 37,
                .slices = 1,
            };
            const void *table;
            pr_dtype dtype;
            assert_int_equal(device->table_create(device, &part, &table, &dtype), PR_OK);
            assert_int_equal(dtype, i == PR_BF16 ? PR_BF16 : PR_F32);
            check_rows(device, &part, table, dtype == PR_BF16, 37);
            device->table_destroy(device, table);
            free((void *)(uintptr_t)part.data);
        }
        pr_gpu_device_close(device);
    }
}

static void what_a_gpu_cannot_hold_is_refused(void **state)
{
    (void)state;
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        char *data = make_stored(PR_BF16, 64 * 64);
        const pr_matrix_source good = {
            .data = data,
            .dtype = PR_BF16,
            .stride = 64,
            .row_end = 64,
            .col_end = 64,
            .slices = 1};
        pr_matrix_source bad = good;
        pr_matrix *matrix;
        pr_error_capture_begin();
        bad.quantization = PR_QUANTIZATION_INT4;
        assert_int_equal(device->matrix_create(device, &bad, &matrix), PR_ERR_UNSUPPORTED);
        bad = good;
        bad.slices = 8;  // of 8 columns
        assert_int_equal(device->matrix_create(device, &bad, &matrix), PR_ERR_UNSUPPORTED);
        bad = good;
        bad.reader = &reader;
        reads_left = 0;
        assert_int_equal(device->matrix_create(device, &bad, &matrix), PR_ERR_IO);
        const pr_step_tables large = {.tokens = 5, .block_tokens = 16};
        const pr_step_limits limits = {
            .tokens = 4, .segments = 4, .outputs = 4, .positions = 64, .block_tokens = 16};
        pr_step_limits wide = limits;
        wide.head_size = PR_GPU_HEAD_MOST + 2;
        assert_int_equal(device->step_reserve(device, &wide), PR_ERR_UNSUPPORTED);
        assert_int_equal(device->step_reserve(device, &limits), PR_OK);
        assert_int_equal(device->step_begin(device, &large), PR_ERR_INTERNAL);
        pr_error_capture_end();
        free(data);
        pr_gpu_device_close(device);
    }
}

static bool fail_wait(pr_gpu_stream *stream)
{
    (void)stream;
    return false;
}

static const char *say_lost(void) { return "the GPU fell off the bus"; }

static void a_device_that_fails_says_so_once_and_does_nothing_more(void **state)
{
    (void)state;
    for (int g = 0; g < gpus.count; g++) {
        pr_gpu_backend backend = *gpus.gpu[g];
        pr_device *device = open_device(&backend);
        void *memory;
        char byte = 0;
        const pr_step_limits limits = {
            .tokens = 4, .segments = 4, .outputs = 4, .positions = 64, .block_tokens = 16};
        const pr_step_tables step = {.block_tokens = 16};
        assert_int_equal(device->step_reserve(device, &limits), PR_OK);
        assert_int_equal(device->memory_take(device, 4, &memory), PR_OK);
        device->add(device, &(pr_add_args){.elements = 1, .x = memory, .y = memory});
        backend.wait = fail_wait;
        backend.error = say_lost;
        pr_error_capture_begin();
        assert_int_equal(device->copy_out(device, &byte, memory, 1), PR_ERR_INTERNAL);
        assert_non_null(strstr(pr_error_text(), "after add: the GPU fell off the bus"));
        pr_fail(PR_ERR_INTERNAL, "something else");
        backend.wait = gpus.gpu[g]->wait;
        assert_int_equal(device->step_begin(device, &step), PR_ERR_INTERNAL);
        assert_int_equal(device->copy_out(device, &byte, memory, 1), PR_ERR_INTERNAL);
        assert_string_equal(pr_error_text(), "something else");
        pr_error_capture_end();
        device->memory_release(device, memory);
        pr_gpu_device_close(device);
    }
}

// ---- Pages ----

static void pages_pass_through_slabs_by_ranges_of_heads(void **state)
{
    (void)state;
    enum { BLOCKS = 7, HEADS = 4, PAGES = 3 };
    const size_t head_bytes = 16 * 8 * 2, page_bytes = HEADS * head_bytes;
    static const int32_t from[PAGES] = {5, 0, 3}, to[PAGES] = {1, 6, 2};
    for (int g = 0; g < gpus.count; g++) {
        pr_device *device = open_device(gpu_fence_around(gpus.gpu[g]));
        char pages[BLOCKS * HEADS * 16 * 8 * 2], slab[PAGES * 2 * 16 * 8 * 2], after[sizeof pages];
        void *memory;
        for (size_t i = 0; i < sizeof pages; i++)
            pages[i] = (char)(i * 31 + i / 256);
        assert_int_equal(device->memory_take(device, sizeof pages, &memory), PR_OK);
        assert_int_equal(device->copy_in(device, memory, pages, sizeof pages), PR_OK);
        assert_int_equal(device->pages_reserve(device, PAGES, sizeof slab), PR_OK);
        pr_pages_args args = {
            .pages = PAGES,
            .page = from,
            .memory = memory,
            .page_bytes = page_bytes,
            .head_bytes = head_bytes,
            .head_begin = 1,
            .heads = 2,
            .slab = slab,
        };
        assert_int_equal(device->pages_gather(device, &args), PR_OK);
        args.page = to;
        args.head_begin = 2;
        assert_int_equal(device->pages_scatter(device, &args), PR_OK);
        assert_int_equal(device->copy_out(device, after, memory, sizeof pages), PR_OK);
        for (int i = 0; i < PAGES; i++)
            memcpy(
                pages + (size_t)to[i] * page_bytes + 2 * head_bytes,
                pages + (size_t)from[i] * page_bytes + head_bytes, 2 * head_bytes);
        assert_memory_equal(after, pages, sizeof pages);
        device->memory_release(device, memory);
        pr_gpu_device_close(device);
    }
}

// ---- The forward pass ----

enum { TOKENS = 12, BLOCKS = 4, BLOCK_TOKENS = 16 };

typedef struct rank {
    pr_model *model;
    pr_weights *weights;
    pr_device *device;
    pr_shard *shard;
    pr_kv_store *store;
    pr_parallel *alone, *parallel;
    pr_forward *forward;
} rank;

static void open_rank(rank *r, const char *name, pr_device *device)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/data/models/%s", PR_SOURCE_DIR, name);
    *r = (rank){.device = device};
    assert_int_equal(pr_model_open(path, &r->model), PR_OK);
    assert_int_equal(pr_weights_open(path, &r->weights), PR_OK);
    const pr_model *m = r->model;
    const pr_shard_params shard = {
        .model = m, .weights = r->weights, .place = {.tp = 1, .ranks = 1}, .device = device};
    const pr_kv_store_params store = {
        .layers = m->layers,
        .blocks = BLOCKS,
        .block_tokens = BLOCK_TOKENS,
        .kv_heads = m->kv_heads,
        .head_size = m->head_size,
        .dtype = PR_F32,
    };
    const pr_forward_limits limits = {
        .max_tokens = TOKENS, .max_outputs = TOKENS, .max_positions = 32, .max_segments = 2};
    const pr_parallel_staged_limits staged = {
        .tokens = TOKENS,
        .outputs = TOKENS,
        .chosen = m->experts_chosen,
        .hidden = m->hidden,
        .vocabulary = m->vocabulary,
    };
    assert_int_equal(pr_shard_load(&shard, &r->shard), PR_OK);
    assert_int_equal(pr_kv_store_create(device, &store, &r->store), PR_OK);
    assert_int_equal(
        pr_parallel_alone_create(m->experts, m->experts_chosen, m->hidden, TOKENS, &r->alone),
        PR_OK);
    assert_int_equal(pr_parallel_staged_create(r->alone, device, &staged, &r->parallel), PR_OK);
    assert_int_equal(
        pr_forward_create(m, r->shard, r->store, r->parallel, &limits, &r->forward), PR_OK);
}

static void close_rank(rank *r)
{
    pr_forward_destroy(r->forward);
    pr_parallel_staged_destroy(r->parallel);
    pr_parallel_alone_destroy(r->alone);
    pr_kv_store_destroy(r->store);
    pr_shard_unload(r->shard);
    pr_weights_close(r->weights);
    pr_model_close(r->model);
}

// Rows [first, first + count) of one sequence in the given blocks, and their logits.
static void run(rank *r, const int32_t *block, int32_t first, int32_t count, float *logits)
{
    int32_t token[TOKENS], position[TOKENS], output[TOKENS];
    for (int32_t i = 0; i < count; i++) {
        position[i] = first + i;
        token[i] = (position[i] * 37 + 5) % r->model->vocabulary;
        output[i] = i;
    }
    const pr_segment segment = {.rows = count, .start_position = first, .block = block};
    const pr_forward_batch batch = {
        .tokens = count,
        .token = token,
        .position = position,
        .segments = 1,
        .segment = &segment,
        .outputs = count,
        .output_row = output,
    };
    float *some, *again;
    size_t row_bytes = (size_t)r->model->vocabulary * sizeof(float);
    assert_int_equal(pr_forward_run(r->forward, &batch, &some), PR_OK);
    memcpy(logits, some, (size_t)count * row_bytes);
    const int32_t last = count - 1;
    assert_int_equal(pr_forward_logits(r->forward, &last, 1, &again), PR_OK);
    assert_memory_equal(again, logits + (size_t)last * (size_t)r->model->vocabulary, row_bytes);
}

static void a_forward_pass_needs_no_memory_of_the_host(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen2", "llama-linear", "mixtral-tiny", "qwen3-moe"};
    static const int32_t blocks[] = {1}, others[] = {3};
    for (int g = 0; g < gpus.count; g++) {
        for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
            rank gpu, cpu;
            pr_device *reference;
            assert_int_equal(
                pr_cpu_device_open(
                    &(pr_cpu_device_params){.isa = "reference", .threads = 1}, &reference),
                PR_OK);
            open_rank(&gpu, names[m], open_device(gpu_fence_around(gpus.gpu[g])));
            open_rank(&cpu, names[m], reference);
            size_t v = (size_t)gpu.model->vocabulary, bytes = TOKENS * v * sizeof(float);
            float *right = malloc(bytes), *whole = malloc(bytes), *chunked = malloc(bytes);
            run(&cpu, blocks, 0, TOKENS, right);
            run(&gpu, blocks, 0, TOKENS, whole);
            for (size_t i = 0; i < TOKENS * v; i++) {
                if (!(whole[i] > right[i] - 1e-3f && whole[i] < right[i] + 1e-3f))
                    fail_msg(
                        "%s, logit %zu: %g, not %g", names[m], i, (double)whole[i],
                        (double)right[i]);
            }
            run(&gpu, others, 0, 7, chunked);
            run(&gpu, others, 7, 4, chunked + 7 * v);
            pr_kv_store_copy(gpu.store, others[0], 2);
            run(&gpu, (const int32_t[]){2}, 11, 1, chunked + 11 * v);
            assert_memory_equal(chunked, whole, bytes);
            free(right);
            free(whole);
            free(chunked);
            pr_device *device = gpu.device;
            close_rank(&gpu);
            close_rank(&cpu);
            pr_gpu_device_close(device);
            pr_cpu_device_close(reference);
            assert_int_equal(fence.pieces, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_take_any_size_and_leave_the_source_free),
        cmocka_unit_test(matrices_lie_in_rows_filled_up_with_zeros),
        cmocka_unit_test(experts_matrices_lie_one_after_another),
        cmocka_unit_test(tables_of_rows_are_bfloat16_or_wide),
        cmocka_unit_test(what_a_gpu_cannot_hold_is_refused),
        cmocka_unit_test(a_device_that_fails_says_so_once_and_does_nothing_more),
        cmocka_unit_test(pages_pass_through_slabs_by_ranges_of_heads),
        cmocka_unit_test(a_forward_pass_needs_no_memory_of_the_host),
    };
    gpus = gpu_under_test_open();
    if (gpus.count > 2)
        gpus.count = 2;  // only an emulated one's memory can be fenced
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gpu_under_test_close(&gpus);
    return failed;
}
