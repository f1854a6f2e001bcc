// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/base/dtype.h"
#include "runtime/base/elementary.h"

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void exp_is_within_two_ulp_of_libm(void **state)
{
    (void)state;
    double worst = 0;
    for (double x = -87.0; x <= 88.0; x += 1.0 / 16381) {
        float argument = (float)x;
        double right = exp((double)argument);
        float near = (float)right;
        double ulp = (double)(nextafterf(near, INFINITY) - near);
        double error = fabs((double)pr_exp(argument) - right) / ulp;
        worst = error > worst ? error : worst;
    }
    print_message("exp: worst %.3f ulp\n", worst);
    assert_true(worst < 2.0);
}

static void exp_has_defined_values_outside_its_range(void **state)
{
    (void)state;
    assert_true(pr_exp(-INFINITY) == 0.0f);
    assert_true(pr_exp(-87.1f) == 0.0f);
    assert_true(pr_exp(NAN) == 0.0f);
    assert_true(pr_exp(0.0f) == 1.0f);
    assert_true(pr_exp(-0.0f) == 1.0f);
    assert_true(pr_exp(INFINITY) == pr_exp(88.0f));
    assert_true(isfinite(pr_exp(88.0f)));
    assert_true(pr_silu(-1000.0f) <= 0.0f && pr_silu(-1000.0f) > -1e-30f);
    assert_true(pr_silu(1000.0f) == 1000.0f);
}

static void log_in_double_is_right_to_1e13(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        double x = exp((double)(i - 100000) / 150.0);
        double right = log(x);
        double scale = fabs(right) > 1e-3 ? fabs(right) : 1e-3;
        assert_true(fabs(pr_log_f64(x) - right) <= 1e-13 * scale);
    }
    assert_true(pr_log_f64(1.0) == 0.0);
}

static void exp_in_double_is_right_to_1e13(void **state)
{
    (void)state;
    for (double x = -700; x <= 700; x += 0.0123) {
        double right = exp(x);
        assert_true(fabs(pr_exp_f64(x) - right) <= 1e-13 * right);
    }
    assert_true(pr_exp_f64(-701) == 0.0);
    assert_true(pr_exp_f64(0) == 1.0);
}

static void sine_and_cosine_hold_for_large_angles(void **state)
{
    (void)state;
    double worst = 0;
    uint64_t random = 1;
    for (int i = 0; i < 1000000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        double unit = (double)(random >> 11) * 0x1p-53;
        double angle = ldexp(unit * 2 - 1, i % 31), s, c;
        pr_sin_cos(angle, &s, &c);
        worst = fmax(worst, fmax(fabs(s - sin(angle)), fabs(c - cos(angle))));
    }
    print_message("sine, cosine: worst error %.2e\n", worst);
    assert_true(worst < 1e-12);
}

static void sine_and_cosine_hold_at_multiples_of_a_quarter_turn(void **state)
{
    (void)state;
    for (int n = -10000; n <= 10000; n++) {
        for (int step = -1; step <= 1; step++) {
            double angle = n * 0.78539816339744830962, s, c;
            angle = step == 0 ? angle : nextafter(angle, (double)step * 1e9);
            pr_sin_cos(angle, &s, &c);
            assert_true(fabs(s - sin(angle)) < 1e-12);
            assert_true(fabs(c - cos(angle)) < 1e-12);
        }
    }
}

static void every_half_widens_exactly(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint32_t exponent = (bits >> 10) & 31, mantissa = bits & 1023;
        float value = pr_f16_to_f32((uint16_t)bits);
        if (exponent == 31 && mantissa != 0) {
            assert_true(isnan(value));
            continue;
        }
        double right = exponent == 31  ? (double)INFINITY
                       : exponent == 0 ? ldexp(mantissa, -24)
                                       : ldexp(1024 + mantissa, (int)exponent - 25);
        assert_true((double)value == (bits & 0x8000 ? -right : right));
        assert_int_equal(signbit(value) != 0, bits >> 15);
    }
}

static void bfloat16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = pr_bf16_to_f32((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(pr_f32_to_bf16(value), bits);
    }
    assert_int_equal(pr_f32_to_bf16(from_bits(0x3f808000u)), 0x3f80);  // half way, even below
    assert_int_equal(pr_f32_to_bf16(from_bits(0x3f818000u)), 0x3f82);  // half way, even above
    assert_int_equal(pr_f32_to_bf16(from_bits(0x3f808001u)), 0x3f81);
    assert_int_equal(pr_f32_to_bf16(from_bits(0x7f7fffffu)), 0x7f80);  // rounds to infinity
    assert_true(isnan(pr_bf16_to_f32(pr_f32_to_bf16(from_bits(0x7f800001u)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_two_ulp_of_libm),
        cmocka_unit_test(exp_has_defined_values_outside_its_range),
        cmocka_unit_test(log_in_double_is_right_to_1e13),
        cmocka_unit_test(exp_in_double_is_right_to_1e13),
        cmocka_unit_test(sine_and_cosine_hold_for_large_angles),
        cmocka_unit_test(sine_and_cosine_hold_at_multiples_of_a_quarter_turn),
        cmocka_unit_test(every_half_widens_exactly),
        cmocka_unit_test(bfloat16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
