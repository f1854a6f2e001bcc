// SPDX-License-Identifier: BSD-3-Clause
// The byte-level alphabet: each byte as one visible character, so that any text is a string over
// 256 characters. Printable Latin-1 stands for itself, the rest takes U+0100 upwards in order.
// Source: Radford et al. 2019 (GPT-2).
#ifndef PR_RUNTIME_TEXT_BYTE_LEVEL_H
#define PR_RUNTIME_TEXT_BYTE_LEVEL_H

#include <stdint.h>

static inline uint32_t pr_byte_level_character(uint8_t byte)
{
    if (byte <= 32)
        return 256u + byte;
    if (byte >= 127 && byte <= 160)
        return 256u + 33u + (byte - 127u);
    return byte == 173 ? 256u + 33u + 34u : byte;
}

// The byte a character stands for, or -1.
static inline int pr_byte_level_byte(uint32_t character)
{
    if (character < 256)
        return pr_byte_level_character((uint8_t)character) == character ? (int)character : -1;
    if (character < 256 + 33)
        return (int)character - 256;
    if (character < 256 + 33 + 34)
        return (int)character - 256 - 33 + 127;
    return character == 256 + 33 + 34 ? 173 : -1;
}

#endif
