// SPDX-License-Identifier: BSD-3-Clause
#include "devices.h"

#include <math.h>

#include "kernels/cpu/cpu_state.h"
#include "runtime/base/elementary.h"

static const int32_t sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 101, 192};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static void rmsnorm_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int32_t tokens = 0; tokens < 4; tokens++) {
        for (int s = 0; s < SIZES; s++) {
            size_t size = (size_t)(tokens * sizes[s]);
            float *x = random_floats(size, 1), *weight = random_floats((size_t)sizes[s], 2);
            float *right = guarded_floats(size), *y = guarded_floats(size);
            for (int i = 0; i < all.count; i++) {
                pr_rmsnorm_args args = {
                    .tokens = tokens,
                    .hidden = sizes[s],
                    .x = x,
                    .weight = weight,
                    .epsilon = 1e-6f,
                    .y = i == 0 ? right : y,
                };
                all.device[i]->rmsnorm(all.device[i], &args);
                if (i > 0)
                    assert_same_bits(right, y, size);
            }
            for (size_t j = 0; tokens == 3 && j < size; j++) {
                double sum = 0;
                const float *row = x + j / (size_t)sizes[s] * (size_t)sizes[s];
                for (int32_t e = 0; e < sizes[s]; e++)
                    sum += (double)row[e] * (double)row[e];
                double expected = (double)x[j] / sqrt(sum / sizes[s] + 1e-6) *
                                  (double)weight[j % (size_t)sizes[s]];
                assert_true(fabs((double)right[j] - expected) < 1e-5);
            }
            free(x);
            free(weight);
            free(right);
            free(y);
        }
    }
    close_devices(&all);
}

static void rmsnorm_may_write_over_its_input(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int i = 0; i < all.count; i++) {
        float *x = random_floats(3 * 33, 1), *weight = random_floats(33, 2);
        float *y = random_floats(3 * 33, 1);
        pr_rmsnorm_args args = {
            .tokens = 3, .hidden = 33, .x = x, .weight = weight, .epsilon = 1e-6f, .y = y};
        all.device[i]->rmsnorm(all.device[i], &args);
        args.y = x;
        all.device[i]->rmsnorm(all.device[i], &args);
        assert_same_bits(x, y, 3 * 33);
        free(x);
        free(y);
        free(weight);
    }
    close_devices(&all);
}

static void swiglu(pr_device *device, float *gate, const float *up, int64_t elements)
{
    pr_cpu_state_of(device)->kernels.swiglu(gate, up, elements);
}

static void swiglu_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int s = 0; s < SIZES; s++) {
        size_t size = (size_t)sizes[s];
        float *gate = random_floats(size, 3), *up = random_floats(size, 4);
        for (size_t i = 0; i < size; i++)
            gate[i] *= 120.0f;  // also beyond both ends of pr_exp
        float *right = guarded_floats(size), *out = guarded_floats(size);
        for (int i = 0; i < all.count; i++) {
            memcpy(i == 0 ? right : out, gate, size * sizeof(float));
            swiglu(all.device[i], i == 0 ? right : out, up, sizes[s]);
            if (i > 0)
                assert_same_bits(right, out, size);
        }
        free(gate);
        free(up);
        free(right);
        free(out);
    }
    close_devices(&all);
}

// Every float that pr_exp treats differently, and a dense sweep, through silu.
static void vector_exp_is_the_scalar_one_bit_for_bit(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    devices all = open_devices();
    float *gate = guarded_floats(N), *up = guarded_floats(N), *out = guarded_floats(N);
    for (uint32_t round = 0; round < 64; round++) {
        for (uint32_t i = 0; i < N; i++) {
            uint32_t bits = (i << 16) + round * 1021u;  // all exponents and signs
            memcpy(&gate[i], &bits, 4);
            if (isnan(gate[i]))
                gate[i] = 0.0f;
            up[i] = 1.0f;
        }
        for (int i = 0; i < all.count; i++) {
            memcpy(out, gate, N * sizeof(float));
            swiglu(all.device[i], out, up, N);
            for (int j = 0; j < N; j++) {
                float right = pr_silu(gate[j]);
                assert_true(memcmp(&right, &out[j], 4) == 0 || (isnan(right) && isnan(out[j])));
            }
        }
    }
    free(gate);
    free(up);
    free(out);
    close_devices(&all);
}

static void combine_adds_in_order_of_k(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int s = 0; s < SIZES; s++) {
        for (int32_t chosen = 1; chosen <= 8; chosen++) {
            enum { TOKENS = 3 };
            size_t n = (size_t)sizes[s], size = TOKENS * n;
            float *rows = random_floats(size * (size_t)chosen, 5);
            const float *row[TOKENS * 8];
            for (size_t slot = 0; slot < TOKENS * (size_t)chosen; slot++)
                row[slot] = rows + slot * n;
            float *weight = random_floats(TOKENS * (size_t)chosen, 6);
            float *right = guarded_floats(size), *y = guarded_floats(size);
            for (size_t t = 0; t < TOKENS; t++) {
                for (size_t e = 0; e < n; e++) {
                    float sum = 0.0f;
                    for (size_t k = 0; k < (size_t)chosen; k++)
                        sum = fmaf(
                            weight[t * (size_t)chosen + k], rows[(t * (size_t)chosen + k) * n + e],
                            sum);
                    right[t * n + e] = sum;
                }
            }
            for (int i = 0; i < all.count; i++) {
                pr_combine_args args = {
                    .tokens = TOKENS,
                    .chosen = chosen,
                    .hidden = sizes[s],
                    .row = row,
                    .weight = weight,
                    .y = y,
                };
                all.device[i]->combine(all.device[i], &args);
                assert_same_bits(right, y, size);
            }
            free(rows);
            free(weight);
            free(right);
            free(y);
        }
    }
    close_devices(&all);
}

static void topk_matches_the_published_example(void **state)
{
    (void)state;
    // 16 logits 2 sin(1.7 (i + 1)): values computed in float64.
    static const int32_t right[4] = {11, 0, 15, 7};
    static const double plain[4] = {0.179933, 0.177032, 0.141393, 0.135819};
    static const double renormalised[4] = {0.283727, 0.279152, 0.222956, 0.214166};
    devices all = open_devices();
    float logits[16], weight[4];
    int32_t expert[4];
    for (int i = 0; i < 16; i++)
        logits[i] = (float)(2 * sin(1.7 * (i + 1)));
    for (int i = 0; i < all.count; i++) {
        for (int renormalise = 0; renormalise < 2; renormalise++) {
            pr_topk_args args = {
                .tokens = 1,
                .experts = 16,
                .chosen = 4,
                .logits = logits,
                .renormalise = renormalise,
                .expert = expert,
                .weight = weight,
            };
            all.device[i]->topk(all.device[i], &args);
            assert_memory_equal(expert, right, sizeof(right));
            for (int k = 0; k < 4; k++) {
                double expected = renormalise ? renormalised[k] : plain[k];
                assert_true(fabs((double)weight[k] - expected) < 1e-6);
            }
        }
    }
    close_devices(&all);
}

static void topk_takes_the_lowest_expert_of_equal_ones(void **state)
{
    (void)state;
    devices all = open_devices();
    float logits[2][6] = {{1, 3, 2, 3, 3, 2}, {0, 0, 0, 0, 0, 0}}, weight[2][4];
    int32_t expert[2][4];
    static const int32_t right[2][4] = {{1, 3, 4, 2}, {0, 1, 2, 3}};
    pr_topk_args args = {
        .tokens = 2,
        .experts = 6,
        .chosen = 4,
        .logits = &logits[0][0],
        .renormalise = true,
        .expert = &expert[0][0],
        .weight = &weight[0][0],
    };
    all.device[0]->topk(all.device[0], &args);
    assert_memory_equal(expert, right, sizeof(right));
    assert_true(weight[1][0] == 0.25f && weight[1][3] == 0.25f);
    args.chosen = 6;  // all of them
    float all_weights[12];
    int32_t all_experts[12];
    args.expert = all_experts;
    args.weight = all_weights;
    all.device[0]->topk(all.device[0], &args);
    assert_int_equal(all_experts[5], 0);
    close_devices(&all);
}

// Many experts, equal logits among them: the order is that of a plain selection, the bits the reference's.
static void topk_of_many_experts_is_the_reference_everywhere(void **state)
{
    (void)state;
    enum { T = 9, E = 131, K = 11 };
    devices all = open_devices();
    float *logits = random_floats(T * E, 31);
    for (int i = 0; i < T * E; i++)
        logits[i] = i % 3 ? 20 * logits[i] : truncf(5 * logits[i]);
    int32_t expert[T * K], right_expert[T * K];
    float *right = guarded_floats(T * K), *weight = guarded_floats(T * K);
    for (int j = 0; j < all.count; j++) {
        pr_topk_args args = {
            .tokens = T,
            .experts = E,
            .chosen = K,
            .logits = logits,
            .renormalise = true,
            .expert = j == 0 ? right_expert : expert,
            .weight = j == 0 ? right : weight,
        };
        all.device[j]->topk(all.device[j], &args);
        if (j == 0)
            continue;
        assert_same_bits(right, weight, T * K);
        assert_memory_equal(right_expert, expert, sizeof(expert));
    }
    for (int t = 0; t < T; t++) {
        bool taken[E] = {false};
        for (int k = 0; k < K; k++) {
            int best = -1;
            for (int e = 0; e < E; e++) {
                if (!taken[e] && (best < 0 || logits[t * E + e] > logits[t * E + best]))
                    best = e;
            }
            taken[best] = true;
            assert_int_equal(right_expert[t * K + k], best);
        }
    }
    free(logits);
    free(right);
    free(weight);
    close_devices(&all);
}

static void experts_are_the_mlp_of_each_row_in_turn(void **state)
{
    (void)state;
    enum { E = 4, H = 24, I = 19, ROWS = 12 };
    static const int32_t count[E] = {3, 0, 8, 1};
    devices all = open_devices();
    float *weights = random_floats(E * 3 * H * I, 11), *x = random_floats(ROWS * H, 12);
    float *right = guarded_floats(ROWS * H);
    for (int i = 0; i < all.count; i++) {
        pr_device *device = all.device[i];
        pr_matrix *matrix[3][E];
        for (int e = 0; e < E; e++) {
            for (int part = 0; part < 3; part++) {
                pr_matrix_source source = {
                    .data = weights + (e * 3 + part) * H * I,
                    .dtype = PR_F32,
                    .stride = part == 2 ? I : H,
                    .row_end = part == 2 ? H : I,
                    .col_end = part == 2 ? I : H,
                    .slices = 1,
                };
                assert_int_equal(device->matrix_create(device, &source, &matrix[part][e]), PR_OK);
            }
        }
        float scratch[ROWS * 2 * I], *y = guarded_floats(ROWS * H);
        pr_experts_args args = {
            .experts = E,
            .count = count,
            .gate = (const pr_matrix *const *)matrix[0],
            .up = (const pr_matrix *const *)matrix[1],
            .down = (const pr_matrix *const *)matrix[2],
            .hidden = H,
            .inner = I,
            .x = x,
            .scratch = scratch,
            .y = y,
        };
        device->experts(device, &args);
        if (i == 0) {
            int row = 0;
            for (int e = 0; e < E; e++) {
                for (int j = 0; j < count[e]; j++, row++) {
                    int32_t one[E] = {0};
                    one[e] = 1;
                    args.count = one;
                    args.x = x + row * H;
                    args.y = right + row * H;
                    device->experts(device, &args);
                }
            }
        }
        assert_same_bits(right, y, ROWS * H);
        free(y);
        for (int e = 0; e < E; e++) {
            for (int part = 0; part < 3; part++)
                device->matrix_destroy(device, matrix[part][e]);
        }
    }
    free(weights);
    free(x);
    free(right);
    close_devices(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_gives_the_bits_of_the_reference),
        cmocka_unit_test(rmsnorm_may_write_over_its_input),
        cmocka_unit_test(swiglu_gives_the_bits_of_the_reference),
        cmocka_unit_test(vector_exp_is_the_scalar_one_bit_for_bit),
        cmocka_unit_test(combine_adds_in_order_of_k),
        cmocka_unit_test(topk_matches_the_published_example),
        cmocka_unit_test(topk_takes_the_lowest_expert_of_equal_ones),
        cmocka_unit_test(topk_of_many_experts_is_the_reference_everywhere),
        cmocka_unit_test(experts_are_the_mlp_of_each_row_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
