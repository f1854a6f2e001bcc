// SPDX-License-Identifier: BSD-3-Clause
// Packed bytes of a CPU device: the same from every instruction set, every way of reading, and every part
// of a matrix that was stored whole.
#include <stdatomic.h>

#include "devices.h"

#include "kernels/cpu/cpu_matrix.h"
#include "runtime/base/hash.h"

typedef struct kind {
    const char *name;
    pr_dtype dtype;
    pr_quantization quantization;
} kind;

static const kind kinds[] = {
    {"float32", PR_F32, PR_QUANTIZATION_NONE}, {"bfloat16", PR_BF16, PR_QUANTIZATION_NONE},
    {"float16", PR_F16, PR_QUANTIZATION_NONE}, {"int8", PR_BF16, PR_QUANTIZATION_INT8},
    {"int4", PR_BF16, PR_QUANTIZATION_INT4},   {"widened", PR_BF16, PR_QUANTIZATION_FLOAT32},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

// Finite numbers in every type, denormals of bfloat16 among them.
static char *random_weights(pr_dtype dtype, size_t elements, uint64_t seed)
{
    size_t bytes = elements * pr_dtype_bytes(dtype);
    char *weights = malloc(bytes + 1);
    assert_non_null(weights);
    for (size_t i = 0; i < elements; i++) {
        float value = random_float(&seed);
        uint16_t half = (uint16_t)(seed >> 20);
        if (dtype == PR_F32) {
            memcpy(weights + 4 * i, &value, 4);
        } else if (dtype == PR_BF16) {
            half = i % 7 == 3 ? (uint16_t)(half & 0x807f) : pr_f32_to_bf16(value);
            memcpy(weights + 2 * i, &half, 2);
        } else {
            half &= 0xbfff;  // no infinity, no NaN
            memcpy(weights + 2 * i, &half, 2);
        }
    }
    return weights;
}

// A reader of "files" that are memory, which fails once so many reads are done.
typedef struct memory_file {
    atomic_int reads_left;
} memory_file;

static bool read_memory(void *context, const void *from, void *to, size_t size_bytes)
{
    memory_file *file = context;
    if (atomic_fetch_sub(&file->reads_left, 1) <= 0)
        return false;
    memcpy(to, from, size_bytes);
    return true;
}

static pr_matrix_source
source_of(const kind *k, const void *data, int64_t rows, int64_t cols, int32_t slices)
{
    return (pr_matrix_source){
        .data = data,
        .dtype = k->dtype,
        .stride = cols,
        .row_end = rows,
        .col_end = cols,
        .slices = slices,
        .quantization = k->quantization,
    };
}

// What the lanes beyond the last row hold is nobody's business: their outputs are not stored.
static void assert_same_lanes(const pr_matrix *a, const char *x, const char *y, size_t lanes)
{
    int32_t of_four, of_two;
    pr_cpu_matrix_unit_vectors(a->packing, &of_four, &of_two);
    for (int64_t unit = 0; unit < a->padded_cols / a->unit; unit++) {
        for (int32_t i = 0; i < of_four + of_two; i++) {
            size_t lane_bytes = i < of_four ? 4 : 2;
            assert_memory_equal(x, y, lanes * lane_bytes);
            x += PR_PANEL * lane_bytes;
            y += PR_PANEL * lane_bytes;
        }
    }
}

static void assert_same_panels(const pr_matrix *a, const pr_matrix *b)
{
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    assert_int_equal(a->slices, b->slices);
    assert_int_equal(a->packing, b->packing);
    assert_int_equal(a->unit, b->unit);
    assert_int_equal(a->padded_cols, b->padded_cols);
    assert_int_equal(a->panel_bytes, b->panel_bytes);
    for (int64_t panel = 0; panel < pr_matrix_panels(a); panel++) {
        int64_t rows = a->rows - panel * PR_PANEL;
        assert_same_lanes(
            a, pr_matrix_panel(a, panel), pr_matrix_panel(b, panel),
            (size_t)(rows < PR_PANEL ? rows : PR_PANEL));
    }
}

// ---- packing ---------------------------------------------------------------------------------

static const struct {
    int64_t rows, cols;
    int32_t slices;
} shapes[] = {
    {0, 5, 1},   {1, 1, 1},    {15, 31, 1},  {16, 32, 1},   {17, 33, 1},
    {48, 64, 8}, {40, 200, 8}, {33, 127, 4}, {97, 1024, 1}, {64, 3, 8},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void every_instruction_set_and_reader_packs_the_same_bytes(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int i = 0; i < SHAPES * KINDS; i++) {
        const kind *k = &kinds[i % KINDS];
        int64_t rows = shapes[i / KINDS].rows, cols = shapes[i / KINDS].cols;
        char *weights = random_weights(k->dtype, (size_t)(rows * cols), (uint64_t)i + 1);
        pr_matrix_source source = source_of(k, weights, rows, cols, shapes[i / KINDS].slices);
        pr_matrix *expected, *got;
        assert_int_equal(all.device[0]->matrix_create(all.device[0], &source, &expected), PR_OK);
        for (int d = 0; d < 2 * all.count; d++) {
            pr_device *device = all.device[d / 2];
            memory_file file = {.reads_left = 1 << 20};
            pr_byte_reader reader = {read_memory, &file};
            source.reader = d % 2 ? &reader : NULL;
            assert_int_equal(device->matrix_create(device, &source, &got), PR_OK);
            assert_same_panels(expected, got);
            device->matrix_destroy(device, got);
        }
        all.device[0]->matrix_destroy(all.device[0], expected);
        free(weights);
    }
    close_devices(&all);
}

// The bytes are a format: whoever changes them changes pr_cpu_packed_layout, then this list.
static void packed_bytes_are_those_of_their_layout(void **state)
{
    static const uint64_t expected[KINDS] = {
        0xb968e9bee8d21f6b, 0x898c38ebac5a9c63, 0xf3b349f7bfec7fe0,
        0x5ff449a30a6227b6, 0xebeb5da5c9a5a4b0, 0xa342cb9889229605,
    };
    (void)state;
    bool same = true;
    pr_device *device;
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &device), PR_OK);
    assert_string_equal(device->packed_layout, "cpu-panels-1");
    for (int i = 0; i < KINDS; i++) {
        const kind *k = &kinds[i];
        char *weights = random_weights(k->dtype, 40 * 200, 9);
        pr_matrix_source source = source_of(k, weights, 40, 200, 8);
        pr_packed_shape shape = pr_packed_shape_of(&source);
        pr_matrix *matrix;
        assert_int_equal(device->matrix_create(device, &source, &matrix), PR_OK);
        uint64_t hash =
            pr_hash_bytes(0, device->matrix_packed(matrix), device->packed_bytes(&shape));
        if (hash != expected[i])
            print_error("%s: now 0x%016llx\n", k->name, (unsigned long long)hash);
        same &= hash == expected[i];
        device->matrix_destroy(device, matrix);
        free(weights);
    }
    assert_true(same);
    pr_cpu_device_close(device);
}

// ---- parts of a stored matrix ----------------------------------------------------------------

// A part made of the stored elements, as loading without a store does.
static pr_matrix *
make_part(pr_device *device, const pr_matrix_source *whole, const pr_packed_source *p)
{
    pr_matrix *matrix;
    pr_matrix_source source = *whole;
    source.row_begin = p->row_begin;
    source.row_end = p->row_end;
    source.col_begin = whole->stride * p->slice_begin / p->shape.slices;
    source.col_end = whole->stride * p->slice_end / p->shape.slices;
    source.slices = p->slice_end - p->slice_begin;
    assert_int_equal(device->matrix_create(device, &source, &matrix), PR_OK);
    return matrix;
}

static const int64_t row_cuts[][2] = {{0, 80}, {0, 48}, {16, 80}, {48, 75}, {24, 48},
                                      {7, 80}, {0, 1},  {79, 80}, {5, 5},   {0, 70}};
enum { ROW_CUTS = sizeof row_cuts / sizeof *row_cuts };

static void parts_of_a_packed_matrix_are_those_of_the_stored_one(void **state)
{
    static const int32_t slice_cuts[][2] = {{0, 8}, {0, 4}, {4, 8}, {6, 8}, {3, 4}};
    (void)state;
    devices all = open_devices();
    for (int i = 0; i < KINDS * ROW_CUTS * 5; i++) {
        pr_device *device = all.device[i % all.count];
        const kind *k = &kinds[i % KINDS];
        const int64_t *rows = row_cuts[i / KINDS % ROW_CUTS];
        const int32_t *slices = slice_cuts[i / KINDS / ROW_CUTS];
        char *weights = random_weights(k->dtype, 80 * 232, (uint64_t)i + 1);
        pr_matrix_source source = source_of(k, weights, 80, 232, 8);
        pr_matrix *whole, *got;
        assert_int_equal(device->matrix_create(device, &source, &whole), PR_OK);
        memory_file file = {.reads_left = 1 << 20};
        pr_byte_reader reader = {read_memory, &file};
        pr_packed_source packed = {
            .shape = pr_packed_shape_of(&source),
            .data = device->matrix_packed(whole),
            .row_begin = rows[0],
            .row_end = rows[1],
            .slice_begin = slices[0],
            .slice_end = slices[1],
        };
        pr_matrix *expected = make_part(device, &source, &packed);
        for (int way = 0; way < 2; way++) {
            packed.reader = way ? &reader : NULL;
            assert_int_equal(device->matrix_load(device, &packed, &got), PR_OK);
            assert_same_panels(expected, got);
            device->matrix_destroy(device, got);
        }
        device->matrix_destroy(device, expected);
        device->matrix_destroy(device, whole);
        free(weights);
    }
    close_devices(&all);
}

static void whole_panels_are_used_in_place(void **state)
{
    (void)state;
    pr_device *device;
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &device), PR_OK);
    char *weights = random_weights(PR_BF16, 80 * 64, 3);
    pr_matrix_source source = source_of(&kinds[1], weights, 80, 64, 1);
    pr_matrix *whole, *part;
    assert_int_equal(device->matrix_create(device, &source, &whole), PR_OK);
    pr_packed_source packed = {
        .shape = pr_packed_shape_of(&source),
        .data = device->matrix_packed(whole),
        .row_begin = 16,
        .row_end = 48,
        .slice_end = 1,
    };
    assert_int_equal(device->matrix_load(device, &packed, &part), PR_OK);
    assert_true(part->in_place);
    assert_ptr_equal(part->panels, whole->panels + whole->panel_bytes);
    device->matrix_destroy(device, part);
    packed.row_begin = 17;
    assert_int_equal(device->matrix_load(device, &packed, &part), PR_OK);
    assert_false(part->in_place);
    device->matrix_destroy(device, part);
    device->matrix_destroy(device, whole);
    free(weights);
    pr_cpu_device_close(device);
}

static void a_reader_that_fails_is_an_input_error(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int i = 0; i < 3 * all.count; i++) {
        pr_device *device = all.device[i / 3];
        char *weights = random_weights(PR_BF16, 3200 * 256, 3);
        pr_matrix_source source = source_of(&kinds[1], weights, 3200, 256, 8);
        pr_matrix *whole, *part;
        assert_int_equal(device->matrix_create(device, &source, &whole), PR_OK);
        memory_file file = {.reads_left = 1};
        pr_byte_reader reader = {read_memory, &file};
        pr_packed_source packed = {
            .shape = pr_packed_shape_of(&source),
            .data = device->matrix_packed(whole),
            .reader = &reader,
            .row_begin = i % 3 == 0 ? 1 : 0,
            .row_end = 3200,
            .slice_end = i % 3 == 1 ? 4 : 8,
        };
        source.reader = &reader;
        assert_int_equal(
            i % 3 == 2 ? device->matrix_create(device, &source, &part)
                       : device->matrix_load(device, &packed, &part),
            PR_ERR_IO);
        device->matrix_destroy(device, whole);
        free(weights);
    }
    close_devices(&all);
}

static void a_part_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    pr_device *device;
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &device), PR_OK);
    const pr_packed_shape shape = {.rows = 32, .cols = 16, .slices = 8, .dtype = PR_BF16};
    char data[64];
    const pr_packed_source bad[] = {
        {.shape = shape, .data = data, .row_begin = -1, .row_end = 3, .slice_end = 8},
        {.shape = shape, .data = data, .row_end = 33, .slice_end = 8},
        {.shape = shape, .data = data, .row_begin = 4, .row_end = 3, .slice_end = 8},
        {.shape = shape, .data = data, .row_end = 32, .slice_end = 9},
        {.shape = shape, .data = data, .row_end = 32, .slice_begin = 2, .slice_end = 2},
        {.shape = {.rows = 32, .cols = 16, .slices = 3}, .row_end = 32, .slice_end = 1},
    };
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pr_matrix *matrix = NULL;
        assert_int_equal(device->matrix_load(device, &bad[i], &matrix), PR_ERR_ARGUMENT);
        assert_null(matrix);
    }
    pr_error_capture_end();
    pr_cpu_device_close(device);
}

// ---- memory ----------------------------------------------------------------------------------

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    enum { PIECES = 60 };
    static const size_t sizes[] = {0, 1, 64, 65535, 65536, 100000, 3 << 20, 20 << 20};
    (void)state;
    pr_device *device;
    char *piece[PIECES];
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 2}, &device), PR_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PIECES; i++) {
            void *memory;
            size_t size = sizes[i % 8];
            assert_int_equal(device->memory_take(device, size, &memory), PR_OK);
            assert_int_equal((uintptr_t)memory % 64, 0);
            piece[i] = memory;
            for (size_t at = 0; at < size; at += 4095)
                assert_int_equal(piece[i][at], 0);
            memset(memory, i + 1, size);
        }
        for (int i = 0; i < PIECES; i++)
            for (size_t at = 0; at < sizes[i % 8]; at += 4095)
                assert_int_equal(piece[i][at], (char)(i + 1));
        for (int i = 0; i < PIECES; i++)
            device->memory_release(device, piece[(i * 7) % PIECES]);
    }
    pr_cpu_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_set_and_reader_packs_the_same_bytes),
        cmocka_unit_test(packed_bytes_are_those_of_their_layout),
        cmocka_unit_test(parts_of_a_packed_matrix_are_those_of_the_stored_one),
        cmocka_unit_test(whole_panels_are_used_in_place),
        cmocka_unit_test(a_reader_that_fails_is_an_input_error),
        cmocka_unit_test(a_part_that_makes_no_sense_is_refused),
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
