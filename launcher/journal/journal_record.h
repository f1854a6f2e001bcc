// SPDX-License-Identifier: BSD-3-Clause
// One record of a journal file: a frame with a checksum, and what it holds. Shapes: docs/journal.md.
//
//   [ frame 24 bytes ][ data, size_bytes ][ 0..7 zero bytes ] [ frame ] ...
//
// Little endian. A record is whole or it is not there: the first that is not (its bytes were still on
// their way when the process ended) ends its file for readers. The frame stays as it is in later versions.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_RECORD_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_RECORD_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PR_JOURNAL_VERSION = 1 };

typedef enum pr_journal_kind {
    PR_JOURNAL_OPENING = 1,  // pr_journal_opening and a text: the first of a file
    PR_JOURNAL_CLAIM = 2,    // pr_journal_claim: a line of the input was taken
    PR_JOURNAL_TOKENS = 3,   // pr_journal_token, one or more, each followed by its tops
    PR_JOURNAL_RESULT = 4,   // pr_journal_result and the line of the output
    PR_JOURNAL_CLOSING = 5,  // nothing: the run ended in order
} pr_journal_kind;

typedef struct pr_journal_frame {
    uint32_t magic;
    uint16_t version, kind;
    uint32_t size_bytes;  // of the data
    uint32_t number;      // of the record in its file, from 0
    uint64_t checksum;    // of the 16 bytes before and the data
} pr_journal_frame;
static_assert(sizeof(pr_journal_frame) == 24, "the frame is a file format");

typedef struct pr_journal_opening {
    uint64_t identity;  // of what answers depend on: the model and the options that change bytes
    // then what the identity is made of, as text for people
} pr_journal_opening;

typedef struct pr_journal_claim {
    int64_t position, number;    // of the line, as in batch_input.h
    uint64_t line_hash;          // of its text
    uint64_t id_hash, id_check;  // of its custom_id (id_set.h); 0: it has none of its own
} pr_journal_claim;
static_assert(sizeof(pr_journal_claim) == 40, "the claim is a file format");

typedef struct pr_journal_token {
    int64_t position;
    int32_t answer, index;  // of the line's sequences; of the sequence's outputs
    int32_t token, finish;  // pr_finish
    float logprob;
    int32_t tops;  // pr_logprob, so many, follow
} pr_journal_token;
static_assert(sizeof(pr_journal_token) == 32, "the token is a file format");

typedef struct pr_journal_result {
    int64_t position;
    int64_t prompt_tokens, output_tokens;
    int64_t refused;  // 0 or 1
    // then the line, with its newline
} pr_journal_result;
static_assert(sizeof(pr_journal_result) == 32, "the result is a file format");

static inline size_t pr_journal_padded(size_t size_bytes) { return (size_bytes + 7) / 8 * 8; }

// Fills the frame of a record whose data follows it in memory or elsewhere.
void pr_journal_record_seal(
    pr_journal_frame *frame,
    pr_journal_kind kind,
    uint32_t number,
    const void *data,
    size_t size_bytes);

// Whether a frame can be what it says, of whatever version; its data is another matter.
bool pr_journal_record_is_frame(const pr_journal_frame *frame, uint32_t number);
bool pr_journal_record_is_whole(const pr_journal_frame *frame, const void *data);

#endif
