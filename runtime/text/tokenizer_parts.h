// SPDX-License-Identifier: BSD-3-Clause
// What a tokenizer is made of; for tokenizer.c and detokenizer.c only.
#ifndef PR_RUNTIME_TEXT_TOKENIZER_PARTS_H
#define PR_RUNTIME_TEXT_TOKENIZER_PARTS_H

#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/decoder.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/post_processor.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary.h"

struct pr_tokenizer {
    pr_vocabulary *vocabulary;
    pr_added_tokens *added;
    pr_normalizer *normalizer;
    pr_pre_tokenizer *pre_tokenizer;
    pr_bpe *bpe;
    pr_post_processor *post_processor;
    pr_decoder *decoder;
};

#endif
