// SPDX-License-Identifier: BSD-3-Clause
// polyreme.weights: what is written is what is found, and a file with anything changed is refused with one
// line that says what to do.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/model/packed_writer.h"
#include "runtime/model/shard_walk.h"

static char folder[] = "/tmp/pr_test_packed_XXXXXX";
static char path[128];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/%s", folder, PR_PACKED_NAME);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

// ---- files -----------------------------------------------------------------------------------

static void write_small(void)
{
    pr_packed_writer *writer;
    char matrix[5000], name[] = "m";
    const float vector[] = {1, 2, 3};
    memset(matrix, 7, sizeof matrix);
    pr_packed_entry first = {
        .name = name,
        .is_matrix = true,
        .dtype = PR_BF16,
        .dimensions = 2,
        .shape = {40, 50},
        .slices = 8,
        .quantization = PR_QUANTIZATION_INT4,
    };
    pr_packed_entry second = {.name = name, .dtype = PR_F32, .dimensions = 1, .shape = {3}};
    assert_int_equal(pr_packed_writer_open(path, "here", PR_QUANTIZATION_INT4, &writer), PR_OK);
    assert_int_equal(pr_packed_writer_add(writer, &first, matrix, sizeof matrix), PR_OK);
    assert_int_equal(pr_packed_writer_add(writer, &second, vector, sizeof vector), PR_OK);
    assert_int_equal(pr_packed_writer_finish(writer), PR_OK);
    pr_packed_writer_close(writer);
}

static unsigned char *read_file(size_t *size_bytes)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    *size_bytes = (size_t)info.st_size;
    unsigned char *bytes = malloc(*size_bytes);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, *size_bytes, file), *size_bytes);
    fclose(file);
    return bytes;
}

static void write_file(const unsigned char *bytes, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

static void expect_error(pr_status wanted, const char *text)
{
    pr_weights *weights = NULL;
    pr_error_capture_begin();
    pr_status status = pr_weights_open(folder, &weights);
    pr_error_capture_end();
    if (status != wanted || !strstr(pr_error_text(), text))
        fail_msg("%s: '%s', not '%s'", pr_status_name(status), pr_error_text(), text);
    assert_null(weights);
}

static void put(unsigned char *bytes, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

// ---- the file --------------------------------------------------------------------------------

static void what_is_written_is_found(void **state)
{
    (void)state;
    pr_weights *weights;
    write_small();
    assert_int_equal(pr_weights_open(folder, &weights), PR_OK);
    assert_string_equal(pr_weights_layout(weights), "here");
    assert_int_equal(pr_weights_quantization(weights), PR_QUANTIZATION_INT4);
    const pr_packed_tensor *matrix = pr_weights_find_packed(weights, "m");
    const pr_tensor *vector = pr_weights_find(weights, "m");
    assert_non_null(matrix);
    assert_int_equal(matrix->shape.rows, 40);
    assert_int_equal(matrix->shape.cols, 50);
    assert_int_equal(matrix->shape.slices, 8);
    assert_int_equal(matrix->shape.dtype, PR_BF16);
    assert_int_equal(matrix->shape.quantization, PR_QUANTIZATION_INT4);
    assert_int_equal(matrix->size_bytes, 5000);
    assert_int_equal((uintptr_t)matrix->data % PR_PACKED_ALIGNMENT, 0);
    assert_int_equal(((const char *)matrix->data)[4999], 7);
    assert_non_null(vector);
    assert_int_equal(vector->dtype, PR_F32);
    assert_int_equal(vector->dimensions, 1);
    assert_int_equal(vector->shape[0], 3);
    assert_int_equal(((const float *)vector->data)[2], 3);
    assert_null(pr_weights_find_packed(weights, "n"));
    assert_int_equal(pr_weights_load_mode(weights, PR_LOAD_AUTO), PR_LOAD_READ);
    assert_int_equal(pr_weights_load_mode(weights, PR_LOAD_MMAP), PR_LOAD_MMAP);
    assert_int_equal(pr_weights_verify(weights), PR_OK);
    pr_weights_close(weights);
}

static void every_changed_byte_of_the_head_is_refused(void **state)
{
    (void)state;
    size_t size_bytes;
    write_small();
    unsigned char *bytes = read_file(&size_bytes);
    for (size_t at = 0; at < PR_PACKED_HEAD_BYTES; at++) {
        bytes[at] ^= 0x10;
        write_file(bytes, size_bytes);
        if (at >= 8 && at < 12)
            expect_error(PR_ERR_UNSUPPORTED, "this program reads 1: convert the model again");
        else
            expect_error(PR_ERR_FORMAT, "convert the model again");
        bytes[at] ^= 0x10;
    }
    free(bytes);
}

// A head that is whole, but says something else.
static void a_head_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
        const char *text;
    } lies[] = {
        {16, 1 << 20, "the table lies outside the file"},
        {16, 8, "the table lies outside the file"},
        {24, 3, "the table lies outside the file"},
        {24, UINT64_MAX, "the table lies outside the file"},
        {32, 5, "but was written with 5"},
        {40, 5, "the table is damaged"},
    };
    size_t size_bytes;
    write_small();
    unsigned char *bytes = read_file(&size_bytes);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        unsigned char kept[PR_PACKED_HEAD_BYTES];
        memcpy(kept, bytes, sizeof kept);
        put(bytes + lies[i].at, lies[i].value);
        put(bytes + 56, pr_hash_bytes(0, bytes, 56));
        write_file(bytes, size_bytes);
        expect_error(PR_ERR_FORMAT, lies[i].text);
        memcpy(bytes, kept, sizeof kept);
    }
    free(bytes);
}

static void a_file_that_is_cut_off_is_refused(void **state)
{
    (void)state;
    size_t size_bytes;
    write_small();
    unsigned char *bytes = read_file(&size_bytes);
    static const size_t left[] = {1, 63, 64, 4096, 9000};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        write_file(bytes, left[i]);
        expect_error(PR_ERR_FORMAT, "convert the model again");
    }
    write_file(bytes, size_bytes - 1);
    expect_error(PR_ERR_FORMAT, "convert the model again");
    memset(bytes, 0, PR_PACKED_HEAD_BYTES);
    write_file(bytes, size_bytes);
    expect_error(PR_ERR_FORMAT, "not a finished file of polyreme convert");
    free(bytes);
}

static void a_changed_blob_is_found_by_verify(void **state)
{
    (void)state;
    size_t size_bytes;
    pr_weights *weights;
    write_small();
    unsigned char *bytes = read_file(&size_bytes);
    bytes[4096 + 4321] ^= 1;
    write_file(bytes, size_bytes);
    assert_int_equal(pr_weights_open(folder, &weights), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(pr_weights_verify(weights), PR_ERR_FORMAT);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "'m' is damaged: convert the model again"));
    pr_weights_close(weights);
    free(bytes);
}

static void a_writer_that_does_not_finish_leaves_nothing(void **state)
{
    (void)state;
    pr_packed_writer *writer;
    char beside[160];
    unlink(path);
    assert_int_equal(pr_packed_writer_open(path, "here", PR_QUANTIZATION_NONE, &writer), PR_OK);
    snprintf(beside, sizeof beside, "%s.tmp", path);
    assert_int_equal(access(beside, F_OK), 0);
    pr_packed_writer_close(writer);
    assert_int_not_equal(access(beside, F_OK), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

// ---- the table -------------------------------------------------------------------------------

static void a_table_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
#define MATRIX(dtype, shape, slices, quantization, offsets, hash)                                  \
    "{\"layout\":\"x\",\"quantization\":\"none\",\"tensors\":{},\"matrices\":{\"m\":{\"dtype\":"   \
    "\"" dtype "\",\"shape\":" shape ",\"slices\":" slices ",\"quantization\":\"" quantization     \
    "\",\"offsets\":" offsets ",\"hash\":\"" hash "\"}}}"
#define HASH "0123456789abcdef"
    static const struct {
        const char *table, *text;
    } bad[] = {
        {"[", "the table is not JSON"},
        {"[]", "the table lacks layout"},
        {"{\"quantization\":\"none\",\"matrices\":{},\"tensors\":{}}", "the table lacks layout"},
        {"{\"layout\":\"x\",\"quantization\":\"int2\",\"matrices\":{},\"tensors\":{}}", "lacks"},
        {"{\"layout\":\"x\",\"quantization\":\"none\",\"tensors\":{}}", "the table lacks"},
        {"{\"layout\":\"x\",\"quantization\":\"none\",\"matrices\":{}}", "the table lacks"},
        {MATRIX("F64", "[1,2]", "1", "none", "[4096,4100]", HASH), "'m' has no known dtype"},
        {MATRIX("F32", "[1]", "1", "none", "[4096,4100]", HASH), "no well-formed shape"},
        {MATRIX("F32", "7", "1", "none", "[4096,4100]", HASH), "no well-formed shape"},
        {MATRIX("F32", "[1,-2]", "1", "none", "[4096,4100]", HASH), "is no length"},
        {MATRIX("F32", "[1,2.5]", "1", "none", "[4096,4100]", HASH), "is no length"},
        {MATRIX("F32", "[1,99999999999999]", "1", "none", "[4096,4100]", HASH), "is no length"},
        {MATRIX("F32", "[1,2]", "3", "none", "[4096,4100]", HASH), "number of slices"},
        {MATRIX("F32", "[1,2]", "1", "int3", "[4096,4100]", HASH), "no known quantization"},
        {MATRIX("F32", "[1,2]", "1", "none", "[0,4]", HASH), "no well-formed offsets"},
        {MATRIX("F32", "[1,2]", "1", "none", "[4160,4164]", HASH), "no well-formed offsets"},
        {MATRIX("F32", "[1,2]", "1", "none", "[8192,4100]", HASH), "no well-formed offsets"},
        {MATRIX("F32", "[1,2]", "1", "none", "[4096,70000]", HASH), "no well-formed offsets"},
        {MATRIX("F32", "[1,2]", "1", "none", "[4096]", HASH), "no well-formed offsets"},
        {MATRIX("F32", "[1,2]", "1", "none", "[4096,4100]", "0123"), "no well-formed hash"},
        {MATRIX("F32", "[1,2]", "1", "none", "[4096,4100]", "g123456789abcdef"), "hash"},
        {"{\"layout\":\"x\",\"quantization\":\"none\",\"matrices\":{},\"tensors\":{\"t\":{"
         "\"dtype\":"
         "\"F32\",\"shape\":[3],\"offsets\":[4096,4104],\"hash\":\"" HASH "\"}}}",
         "'t' is larger than its bytes"},
        {"{\"layout\":\"x\",\"quantization\":\"none\",\"matrices\":{},\"tensors\":{\"t\":{"
         "\"dtype\":"
         "\"F32\",\"shape\":[1],\"offsets\":[4096,4104],\"hash\":\"" HASH "\"}}}",
         "'t' has 8 bytes, its shape and dtype need 4"},
        {"{\"layout\":\"x\",\"quantization\":\"none\",\"matrices\":{},\"tensors\":{\"t\":{"
         "\"dtype\":"
         "\"F32\",\"shape\":[2048],\"offsets\":[4096,12288],\"hash\":\"" HASH
         "\"},\"u\":{\"dtype\":\"F32\",\"shape\":[1],\"offsets\":[8192,8196],\"hash\":\"" HASH
         "\"}}}",
         "'t' and 'u' overlap"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pr_packed_table table;
        pr_error_capture_begin();
        pr_status status =
            pr_packed_table_parse("f", bad[i].table, strlen(bad[i].table), 65536, &table);
        pr_error_capture_end();
        if (status != PR_ERR_FORMAT || !strstr(pr_error_text(), bad[i].text))
            fail_msg("%s: '%s', not '%s'", bad[i].table, pr_error_text(), bad[i].text);
    }
}

// ---- a whole model ---------------------------------------------------------------------------

typedef struct conversion {
    pr_device *device;
    pr_packed_writer *writer;
} conversion;

static pr_status write_matrix(void *context, const pr_shard_matrix *part, pr_matrix **place)
{
    conversion *c = context;
    pr_matrix *matrix;
    const pr_packed_shape shape = pr_packed_shape_of(&part->source);
    pr_packed_entry entry = {
        .name = (char *)(uintptr_t)part->name,
        .is_matrix = true,
        .dtype = shape.dtype,
        .dimensions = 2,
        .shape = {shape.rows, shape.cols},
        .slices = shape.slices,
        .quantization = shape.quantization,
    };
    (void)place;
    assert_int_equal(c->device->matrix_create(c->device, &part->source, &matrix), PR_OK);
    pr_status status = pr_packed_writer_add(
        c->writer, &entry, c->device->matrix_packed(matrix), c->device->packed_bytes(&shape));
    c->device->matrix_destroy(c->device, matrix);
    return status;
}

static pr_status write_table(void *context, const pr_tensor *tensor)
{
    conversion *c = context;
    pr_packed_entry entry = {
        .name = (char *)(uintptr_t)tensor->name,
        .dtype = tensor->dtype,
        .dimensions = tensor->dimensions,
    };
    memcpy(entry.shape, tensor->shape, sizeof entry.shape);
    return pr_packed_writer_add(c->writer, &entry, tensor->data, (size_t)tensor->size_bytes);
}

static pr_status write_vector(void *context, const pr_shard_vector *part, float **place)
{
    (void)place;
    return write_table(context, part->tensor);
}

static void convert(const pr_shard_params *params, const char *layout)
{
    conversion c = {.device = params->device};
    const pr_shard_visitor visitor = {&c, write_matrix, write_vector, write_table};
    pr_shard *shard;
    assert_int_equal(pr_shard_make(params, &shard), PR_OK);
    assert_int_equal(pr_packed_writer_open(path, layout, params->quantization, &c.writer), PR_OK);
    assert_int_equal(pr_shard_walk(params, &visitor, shard), PR_OK);
    assert_int_equal(pr_packed_writer_finish(c.writer), PR_OK);
    pr_packed_writer_close(c.writer);
    pr_shard_unload(shard);
}

static void expect_load_error(const pr_shard_params *params, pr_status wanted, const char *text)
{
    pr_shard *shard = NULL;
    pr_error_capture_begin();
    pr_status status = pr_shard_load(params, &shard);
    pr_error_capture_end();
    if (status != wanted || !strstr(pr_error_text(), text))
        fail_msg("%s: '%s', not '%s'", pr_status_name(status), pr_error_text(), text);
    assert_null(shard);
}

static void a_model_converted_for_something_else_is_refused(void **state)
{
    (void)state;
    static const char model[] = PR_SOURCE_DIR "/tests/data/models/qwen3-moe-fused";
    pr_shard_params params = {.place = {.tp = 1, .ranks = 1}, .quantization = PR_QUANTIZATION_INT8};
    pr_model *opened;
    pr_weights *original, *converted;
    pr_shard *shard;
    assert_int_equal(pr_model_open(model, &opened), PR_OK);
    assert_int_equal(pr_weights_open(model, &original), PR_OK);
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 2}, &params.device),
        PR_OK);
    params.model = opened;
    params.weights = original;
    convert(&params, "another");
    assert_int_equal(pr_weights_open(folder, &converted), PR_OK);
    params.weights = converted;
    expect_load_error(&params, PR_ERR_UNSUPPORTED, "run polyreme convert again");
    pr_weights_close(converted);

    params.weights = original;
    convert(&params, params.device->packed_layout);
    assert_int_equal(pr_weights_open(folder, &converted), PR_OK);
    params.weights = converted;
    params.quantization = PR_QUANTIZATION_INT4;
    expect_load_error(&params, PR_ERR_ARGUMENT, "was converted with quantization int8");
    params.quantization = PR_QUANTIZATION_NONE;
    atomic_int_fast64_t loaded = 0;
    params.loaded_bytes = &loaded;
    assert_int_equal(pr_shard_load(&params, &shard), PR_OK);
    assert_true(loaded > 0 && shard->packed_bytes > 0 && shard->read_bytes >= shard->packed_bytes);
    pr_shard_unload(shard);
    opened->hidden *= 2;
    expect_load_error(&params, PR_ERR_FORMAT, "config.json asks for");
    pr_weights_close(converted);
    pr_weights_close(original);
    pr_cpu_device_close(params.device);
    pr_model_close(opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_found),
        cmocka_unit_test(every_changed_byte_of_the_head_is_refused),
        cmocka_unit_test(a_head_that_lies_is_refused),
        cmocka_unit_test(a_file_that_is_cut_off_is_refused),
        cmocka_unit_test(a_changed_blob_is_found_by_verify),
        cmocka_unit_test(a_writer_that_does_not_finish_leaves_nothing),
        cmocka_unit_test(a_table_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_model_converted_for_something_else_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
