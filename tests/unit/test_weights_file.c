// SPDX-License-Identifier: BSD-3-Clause
// pr_weights_open on good, damaged and hostile safetensors directories.
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

#include "runtime/base/log.h"
#include "runtime/model/weights_file.h"

#define MODELS PR_SOURCE_DIR "/tests/data/models/"

static const char single[] = "model.safetensors";
static const char index_file[] = "model.safetensors.index.json";

static char folder[] = "/tmp/pr_test_weights_XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static int clear_folder(void **state)
{
    (void)state;
    remove_file(single);
    remove_file(index_file);
    remove_file("a.safetensors");
    remove_file("b.safetensors");
    return 0;
}

static int remove_folder(void **state)
{
    clear_folder(state);
    return rmdir(folder);
}

static void write_bytes(const char *name, const void *bytes, size_t count)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

// A safetensors file of this header and data_bytes bytes 0, 1, 2 ...
static void write_safetensors(const char *name, const char *header, size_t data_bytes)
{
    unsigned char bytes[2048] = {0};
    size_t header_bytes = strlen(header);
    assert_true(8 + header_bytes + data_bytes <= sizeof bytes);
    bytes[0] = (unsigned char)header_bytes;
    bytes[1] = (unsigned char)(header_bytes >> 8);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + header_bytes + i] = (unsigned char)i;
    write_bytes(name, bytes, 8 + header_bytes + data_bytes);
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

static pr_weights *open_good(void)
{
    pr_weights *weights = NULL;
    assert_int_equal(pr_weights_open(folder, &weights), PR_OK);
    return weights;
}

// ---- what is read ----------------------------------------------------------------------------

static void tensors_of_one_file_are_found(void **state)
{
    (void)state;
    write_safetensors(
        single,
        "{\"__metadata__\": {\"format\": \"pt\"},"
        "\"late\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [8, 20]},"
        "\"early\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
        "\"scalar\": {\"dtype\": \"F16\", \"shape\": [], \"data_offsets\": [20, 22]},"
        "\"empty\": {\"dtype\": \"F32\", \"shape\": [0, 9], \"data_offsets\": [8, 8]}}  ",
        22);
    pr_weights *weights = open_good();
    const pr_tensor *late = pr_weights_find(weights, "late");
    assert_non_null(late);
    assert_string_equal(late->name, "late");
    assert_int_equal(late->dtype, PR_BF16);
    assert_int_equal(late->dimensions, 2);
    assert_int_equal(late->shape[0], 2);
    assert_int_equal(late->shape[1], 3);
    assert_int_equal(late->size_bytes, 12);
    assert_int_equal(((const unsigned char *)late->data)[0], 8);
    assert_int_equal(pr_weights_find(weights, "scalar")->dimensions, 0);
    assert_int_equal(pr_weights_find(weights, "scalar")->size_bytes, 2);
    assert_int_equal(pr_weights_find(weights, "empty")->size_bytes, 0);
    assert_null(pr_weights_find(weights, "__metadata__"));
    assert_null(pr_weights_find(weights, "none"));
    assert_int_equal(pr_weights_total_bytes(weights), 22);
    pr_weights_close(weights);
}

static void tensors_of_an_indexed_model_are_found(void **state)
{
    (void)state;
    struct stat info;
    pr_weights *weights;
    assert_int_equal(pr_weights_open(MODELS "qwen3-moe-sharded", &weights), PR_OK);
    assert_non_null(pr_weights_find(weights, "model.embed_tokens.weight"));
    assert_non_null(pr_weights_find(weights, "model.layers.1.mlp.experts.3.up_proj.weight"));
    const pr_tensor *head = pr_weights_find(weights, "lm_head.weight");
    assert_non_null(head);
    assert_int_equal(head->shape[0], 256);
    assert_int_equal(head->dtype, PR_BF16);
    assert_int_equal(stat(MODELS "qwen3-moe-sharded/model.safetensors", &info), -1);
    assert_int_equal(pr_weights_total_bytes(weights), 438336);  // total_size of the index
    pr_weights_close(weights);
}

static void a_symbolic_link_is_followed(void **state)
{
    (void)state;
    char target[256], path[256];
    write_safetensors("a.safetensors", "{}", 0);
    snprintf(target, sizeof target, "%s/a.safetensors", folder);
    snprintf(path, sizeof path, "%s/%s", folder, single);
    assert_int_equal(symlink(target, path), 0);  // as in the hub's own cache
    pr_weights *weights = open_good();
    assert_int_equal(pr_weights_total_bytes(weights), 0);
    pr_weights_close(weights);
}

// ---- damaged files ---------------------------------------------------------------------------

static void a_directory_without_weights_is_refused(void **state)
{
    (void)state;
    expect_error(PR_ERR_NOT_FOUND, "neither model.safetensors nor model.safetensors.index.json");
}

static void short_files_and_long_headers_are_refused(void **state)
{
    (void)state;
    write_bytes(single, "1234567", 7);
    expect_error(PR_ERR_FORMAT, "model.safetensors: 7 bytes are too few");
    write_bytes(single, "\x03\0\0\0\0\0\0\0{}", 10);
    expect_error(PR_ERR_FORMAT, "header of 3 bytes reaches beyond the file of 10");
    write_bytes(single, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    expect_error(PR_ERR_FORMAT, "header of 18446744073709551615 bytes reaches beyond");
}

static void damaged_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *text;
    } headers[] = {
        {"", 0, "the header is not JSON"},
        {"[]", 0, "the header is not a JSON object"},
        {"{\"a\": 1}", 0, "tensor 'a' is not described by an object"},
        {"{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "tensor 'a' has no dtype"},
        {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, "'a' has no shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "no well-formed data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 0]}}", 4,
         "no well-formed data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}", 4,
         "no well-formed data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4, 8]}}", 4,
         "no well-formed data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", 4,
         "a dimension that is no length"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1.5], \"data_offsets\": [0, 4]}}", 4,
         "a dimension that is no length"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296, 16],"
         " \"data_offsets\": [0, 0]}}",
         0, "'a' is larger than the file"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 16,
         "'a' has 8 bytes of data, its shape and dtype need 12"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 7,
         "'a' ends at byte 8 of the data, but the file has only 7: it is truncated"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 9,
         "1 bytes follow the last tensor"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
         " \"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 12]}}",
         12, "'b' begins at byte 4 of the data, overlapping another that ends at byte 8"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         " \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 12]}}",
         12, "'b' begins at byte 8 of the data, leaving a hole from byte 4"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         " \"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
         8, "duplicate"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        write_safetensors(single, headers[i].header, headers[i].data_bytes);
        expect_error(PR_ERR_FORMAT, headers[i].text);
    }
}

static void other_dtypes_and_too_many_dimensions_are_unsupported(void **state)
{
    (void)state;
    write_safetensors(
        single, "{\"a\": {\"dtype\": \"F8_E4M3\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1);
    expect_error(PR_ERR_UNSUPPORTED, "'a' has dtype 'F8_E4M3', which is not supported: F32, BF16");
    write_safetensors(
        single,
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1, 1, 1, 1, 1], \"data_offsets\": [0, 4]}}", 4);
    expect_error(PR_ERR_UNSUPPORTED, "'a' has 5 dimensions, at most 4 are supported");
}

static void something_else_than_a_file_is_refused(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, single);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_error(PR_ERR_FORMAT, "not a regular file");
    assert_int_equal(rmdir(path), 0);
}

// ---- the index -------------------------------------------------------------------------------

static const char a_header[] =
    "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}";

static void a_damaged_index_is_refused(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{", "index.json: line 1"},
        {"{}", "weight_map is missing or empty"},
        {"{\"weight_map\": {}}", "weight_map is missing or empty"},
        {"{\"weight_map\": {\"a\": 1}}", "gives tensor 'a' no file name"},
        {"{\"weight_map\": {\"b\": \"a.safetensors\"}}", "tensor 'b' is not in a.safetensors"},
    };
    write_safetensors("a.safetensors", a_header, 4);
    for (int i = 0; i < 5; i++) {
        write_text(index_file, texts[i][0]);
        expect_error(PR_ERR_FORMAT, texts[i][1]);
    }
}

static void an_index_cannot_name_files_elsewhere(void **state)
{
    (void)state;
    static const char *const names[] = {"../x", "/etc/passwd", "sub/x", "", ".hidden", ".."};
    for (int i = 0; i < 6; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%s\"}}", names[i]);
        write_text(index_file, text);
        expect_error(PR_ERR_FORMAT, "which is not a plain file name");
    }
}

static void a_file_missing_from_the_directory_is_named(void **state)
{
    (void)state;
    write_safetensors("a.safetensors", a_header, 4);
    write_text(
        index_file, "{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"b.safetensors\"}}");
    expect_error(PR_ERR_NOT_FOUND, "b.safetensors: there is no such file");
}

static void a_tensor_in_two_files_or_in_the_wrong_one_is_refused(void **state)
{
    (void)state;
    write_safetensors("a.safetensors", a_header, 4);
    write_safetensors("b.safetensors", a_header, 4);
    write_text(
        index_file, "{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"b.safetensors\"}}");
    expect_error(PR_ERR_FORMAT, "tensor 'a' is both in");
    write_safetensors(
        "b.safetensors", "{\"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
        4);
    write_text(
        index_file, "{\"weight_map\": {\"b\": \"a.safetensors\", \"a\": \"b.safetensors\"}}");
    expect_error(PR_ERR_FORMAT, "is not in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tensors_of_one_file_are_found, clear_folder),
        cmocka_unit_test_teardown(tensors_of_an_indexed_model_are_found, clear_folder),
        cmocka_unit_test_teardown(a_symbolic_link_is_followed, clear_folder),
        cmocka_unit_test_teardown(a_directory_without_weights_is_refused, clear_folder),
        cmocka_unit_test_teardown(short_files_and_long_headers_are_refused, clear_folder),
        cmocka_unit_test_teardown(damaged_headers_are_refused, clear_folder),
        cmocka_unit_test_teardown(
            other_dtypes_and_too_many_dimensions_are_unsupported, clear_folder),
        cmocka_unit_test_teardown(something_else_than_a_file_is_refused, clear_folder),
        cmocka_unit_test_teardown(a_damaged_index_is_refused, clear_folder),
        cmocka_unit_test_teardown(an_index_cannot_name_files_elsewhere, clear_folder),
        cmocka_unit_test_teardown(a_file_missing_from_the_directory_is_named, clear_folder),
        cmocka_unit_test_teardown(
            a_tensor_in_two_files_or_in_the_wrong_one_is_refused, clear_folder),
    };
    return cmocka_run_group_tests_name("weights_file", tests, make_folder, remove_folder);
}
