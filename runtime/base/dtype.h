// SPDX-License-Identifier: BSD-3-Clause
// Element types of weights and KV entries, with the conversions that every kernel must agree on.
#ifndef PR_RUNTIME_BASE_DTYPE_H
#define PR_RUNTIME_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum pr_dtype { PR_F32, PR_BF16, PR_F16 } pr_dtype;

static inline size_t pr_dtype_bytes(pr_dtype dtype) { return dtype == PR_F32 ? 4 : 2; }

static inline const char *pr_dtype_name(pr_dtype dtype)
{
    return dtype == PR_F32 ? "float32" : dtype == PR_BF16 ? "bfloat16" : "float16";
}

static inline float pr_bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

// Round to nearest, ties to even; NaN stays a quiet NaN.
static inline uint16_t pr_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// IEEE binary16, exact, subnormals included.
static inline float pr_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u;
    uint32_t mantissa = half & 0x3ffu, bits;
    float value;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | (mantissa << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else {
        value = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &value, 4);
        bits |= sign;
    }
    memcpy(&value, &bits, 4);
    return value;
}

// Element i of an array of the given type, as float.
static inline float pr_dtype_load(pr_dtype dtype, const void *array, size_t i)
{
    if (dtype == PR_F32) {
        float value;
        memcpy(&value, (const char *)array + 4 * i, 4);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)array + 2 * i, 2);
    return dtype == PR_BF16 ? pr_bf16_to_f32(bits) : pr_f16_to_f32(bits);
}

#endif
