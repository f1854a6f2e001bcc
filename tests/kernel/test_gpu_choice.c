// SPDX-License-Identifier: BSD-3-Clause
// What the words of --device come to, on the emulated GPUs and on none.
#include "kernels/gpu/gpu_choice.h"
#include "tests/kernel/gpu_under_test.h"

static void the_cpu_is_no_back_end(void **state)
{
    (void)state;
    pr_gpu_choice choice = {.index = 3};
    assert_int_equal(pr_gpu_choice_make("cpu", 5, &choice), PR_OK);
    assert_null(choice.backend);
}

static void words_that_mean_nothing_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {
        "",
        "gpu",
        "cuda0",
        "cuda:",
        "cuda:-1",
        "cuda:1x",
        "auto:0",
        "cpu:0",
        "cuda:GPU-",
        "cuda:gpu-1",
        "cuda:99999999999",
        "emulated32",
        ":1",
        "cudacudacudacuda:1",
    };
    pr_gpu_choice choice;
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (pr_gpu_choice_make(words[i], 0, &choice) != PR_ERR_ARGUMENT)
            fail_msg("'%s' was accepted", words[i]);
        assert_non_null(strstr(pr_error_text(), "use auto, cpu, cuda or hip"));
    }
    pr_error_capture_end();
}

#ifdef PR_HAVE_GPU_EMULATED
static void ranks_take_the_devices_of_a_node_in_turn(void **state)
{
    (void)state;
    static const char *const names[] = {"emulated", "emulated64"};
    for (int i = 0; i < 2; i++) {
        for (int32_t number = 0; number < 5; number++) {
            pr_gpu_choice choice;
            assert_int_equal(pr_gpu_choice_make(names[i], number, &choice), PR_OK);
            assert_non_null(choice.backend);
            assert_int_equal(choice.devices, choice.backend->devices());
            assert_int_equal(choice.index, number % choice.devices);
            assert_int_equal(choice.facts.warp, i == 0 ? 32 : 64);
        }
    }
}

static void a_number_or_the_beginning_of_a_uuid_names_one_for_every_rank(void **state)
{
    (void)state;
    pr_gpu_choice choice, named;
    char words[64];
    assert_int_equal(pr_gpu_choice_make("emulated:0", 3, &choice), PR_OK);
    assert_int_equal(choice.index, 0);
    assert_int_equal(choice.devices, 1);
    for (int length = 5; length < (int)strlen(choice.facts.uuid); length++) {
        snprintf(words, sizeof words, "emulated:%.*s", length, choice.facts.uuid);
        assert_int_equal(pr_gpu_choice_make(words, 1, &named), PR_OK);
        assert_string_equal(named.facts.uuid, choice.facts.uuid);
    }
    pr_error_capture_begin();
    static const char *const absent[] = {"emulated:9999", "emulated:MIG-1", "emulated:GPU-zz"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pr_gpu_choice_make(absent[i], 0, &named), PR_ERR_ARGUMENT);
        assert_non_null(strstr(pr_error_text(), "there are emulated:0 "));
    }
    pr_error_capture_end();
}

static void
count_device(void *context, const char *backend, int32_t index, const pr_gpu_facts *facts)
{
    int32_t *count = context;
    assert_string_equal(backend, "emulated");
    assert_int_equal(index, *count);
    assert_true(facts->memory_bytes >= facts->free_bytes && facts->free_bytes > 0);
    (*count)++;
}

static void all_devices_of_a_back_end_are_listed(void **state)
{
    (void)state;
    int32_t count = 0;
    char why[256];
    pr_gpu_choice choice;
    pr_gpu_choice_list("emulated", count_device, &count, why);
    assert_int_equal(pr_gpu_choice_make("emulated", 0, &choice), PR_OK);
    assert_int_equal(count, choice.devices);
    pr_gpu_choice_list("no_such", count_device, &count, why);
    assert_int_equal(count, choice.devices);
    assert_non_null(strstr(why, "polyreme_no_such.so"));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_no_back_end),
        cmocka_unit_test(words_that_mean_nothing_are_refused),
#ifdef PR_HAVE_GPU_EMULATED
        cmocka_unit_test(ranks_take_the_devices_of_a_node_in_turn),
        cmocka_unit_test(a_number_or_the_beginning_of_a_uuid_names_one_for_every_rank),
        cmocka_unit_test(all_devices_of_a_back_end_are_listed),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
