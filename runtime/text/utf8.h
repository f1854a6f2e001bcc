// SPDX-License-Identifier: BSD-3-Clause
// UTF-8: repair of foreign bytes, walking, and the two character classes that flags of added tokens
// need. Functions other than pr_utf8_repair take valid UTF-8 only, which every text inside the
// tokenizer is: input goes through pr_utf8_repair and tokenizer.json through jansson's check.
#ifndef PR_RUNTIME_TEXT_UTF8_H
#define PR_RUNTIME_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/text/byte_buffer.h"

// Appends the bytes to *out with each maximal invalid part replaced by one U+FFFD (Unicode 3.9,
// "best practice"; the same as Python's errors="replace" and Rust's from_utf8_lossy).
// final = false keeps back a character that the next bytes may complete (at most 3 bytes).
// Returns the number of bytes used up.
size_t pr_utf8_repair(const char *bytes, size_t size_bytes, bool final, pr_byte_buffer *out);

// Code point at *position, which moves behind it.
uint32_t pr_utf8_next(const char *text, size_t *position);
// Start of the character that ends at position > 0.
size_t pr_utf8_previous(const char *text, size_t position);
size_t pr_utf8_count(const char *text, size_t size_bytes);  // characters of valid text
void pr_utf8_append(pr_byte_buffer *out, uint32_t code_point);

bool pr_utf8_is_space(uint32_t code_point);  // White_Space
// What \w means in UTS 18: Alphabetic, marks, decimal digits, connectors, join controls.
bool pr_utf8_is_word(uint32_t code_point);

#endif
