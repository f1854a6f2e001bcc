// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "launcher/serve/advertiser.h"
#include "launcher/serve/endpoint_file.h"
#include "runtime/base/log.h"

static char folder[] = "/tmp/polyreme-test-XXXXXX";
static char file[64], yaml[64], nowhere[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/endpoint.json", folder);
    snprintf(yaml, sizeof yaml, "%s/endpoints.yaml", folder);
    snprintf(nowhere, sizeof nowhere, "%s/none/endpoints.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlink(yaml);
    return rmdir(folder);  // fails if an endpoint file was left
}

typedef struct advertised {
    pr_options options;
    pr_api_keys *keys;
    pr_advertiser *advertiser;
} advertised;

static void begin(advertised *a, char *endpoints_yaml)
{
    a->options =
        (pr_options){.host = "127.0.0.1", .endpoint_file = file, .endpoints_yaml = endpoints_yaml};
    assert_int_equal(pr_api_keys_create(&a->keys), PR_OK);
    assert_int_equal(pr_advertiser_create(&a->options, a->keys, &a->advertiser), PR_OK);
}

static void end(advertised *a)
{
    pr_advertiser_end(a->advertiser);
    pr_advertiser_destroy(a->advertiser);
    pr_api_keys_destroy(a->keys);
}

static pr_endpoint_state state_now(void)
{
    pr_endpoint endpoint;
    assert_int_equal(pr_endpoint_file_read(file, &endpoint), PR_OK);
    return endpoint.state;
}

static void the_file_follows_the_server(void **state)
{
    (void)state;
    advertised a;
    begin(&a, yaml);
    assert_int_not_equal(access(file, F_OK), 0);
    assert_int_equal(pr_advertiser_ready(a.advertiser, "demo", 8000), PR_OK);
    assert_int_equal(state_now(), PR_ENDPOINT_READY);
    assert_int_equal(access(yaml, F_OK), 0);
    pr_advertiser_drain(a.advertiser);
    assert_int_equal(state_now(), PR_ENDPOINT_DRAINING);
    end(&a);
    assert_int_not_equal(access(file, F_OK), 0);
}

static void a_drain_that_comes_first_is_not_forgotten(void **state)
{
    (void)state;
    advertised a;
    (void)unlink(yaml);
    begin(&a, yaml);
    pr_advertiser_drain(a.advertiser);
    assert_int_equal(pr_advertiser_ready(a.advertiser, "demo", 8000), PR_OK);
    assert_int_equal(state_now(), PR_ENDPOINT_DRAINING);
    assert_int_not_equal(access(yaml, F_OK), 0);
    end(&a);
    assert_int_not_equal(access(file, F_OK), 0);
}

static void a_successors_file_is_neither_marked_nor_removed(void **state)
{
    (void)state;
    advertised old, new;
    begin(&old, yaml);
    assert_int_equal(pr_advertiser_ready(old.advertiser, "demo", 8000), PR_OK);
    begin(&new, yaml);
    assert_int_equal(pr_advertiser_ready(new.advertiser, "demo", 8001), PR_OK);
    pr_advertiser_drain(old.advertiser);
    assert_int_equal(state_now(), PR_ENDPOINT_READY);
    end(&old);
    assert_int_equal(state_now(), PR_ENDPOINT_READY);
    end(&new);
    assert_int_not_equal(access(file, F_OK), 0);
}

static void no_file_is_left_when_the_other_cannot_be_written(void **state)
{
    (void)state;
    advertised a;
    begin(&a, nowhere);
    pr_error_capture_begin();
    assert_int_not_equal(pr_advertiser_ready(a.advertiser, "demo", 8000), PR_OK);
    pr_error_capture_end();
    end(&a);
    assert_int_not_equal(access(file, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_follows_the_server),
        cmocka_unit_test(a_drain_that_comes_first_is_not_forgotten),
        cmocka_unit_test(a_successors_file_is_neither_marked_nor_removed),
        cmocka_unit_test(no_file_is_left_when_the_other_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
