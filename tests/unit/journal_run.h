// SPDX-License-Identifier: BSD-3-Clause
// A batch of a few lines without a model, for tests of the journal: the tokens and results of a line are
// functions of its position, so that whoever computes them, the output must be the same bytes.
#ifndef PR_TESTS_JOURNAL_RUN_H
#define PR_TESTS_JOURNAL_RUN_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/journal/journal.h"
#include "launcher/journal/journal_folder.h"
#include "runtime/base/log.h"

enum { RUN_LINES = 5, RUN_ANSWERS = 2, RUN_TOKENS = 4, RUN_IDENTITY = 7 };

static char run_folder[64], run_output[80];

// In memory where there is such a file system: some tests open thousands of journals.
static inline int run_make_folder(void **state)
{
    (void)state;
    snprintf(run_folder, sizeof run_folder, "/dev/shm/polyreme-test-XXXXXX");
    if (!mkdtemp(run_folder)) {
        snprintf(run_folder, sizeof run_folder, "/tmp/polyreme-test-XXXXXX");
        if (!mkdtemp(run_folder))
            return -1;
    }
    snprintf(run_output, sizeof run_output, "%s/out", run_folder);
    return 0;
}

static inline int run_remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", run_folder);
    return system(command);
}

static inline char *run_path(const char *format, ...)
{
    static char path[4][256];
    static int next;
    char *made = path[next++ % 4];
    va_list arguments;
    int used = snprintf(made, sizeof path[0], "%s/", run_folder);
    va_start(arguments, format);
    vsnprintf(made + used, sizeof path[0] - (size_t)used, format, arguments);
    va_end(arguments);
    return made;
}

static inline char *run_read(const char *path, size_t *size_bytes)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    *size_bytes = 0;
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size_bytes = (size_t)ftell(file);
    rewind(file);
    data = malloc(*size_bytes + 1);
    assert_int_equal(fread(data, 1, *size_bytes, file), *size_bytes);
    data[*size_bytes] = '\0';
    fclose(file);
    return data;
}

static inline void run_write(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size_bytes, file), size_bytes);
    fclose(file);
}

static inline pr_status run_open_as(uint64_t identity, bool resume, pr_journal **journal)
{
    return pr_journal_open(
        &(pr_journal_params){
            .output = run_output,
            .resume = resume,
            .sync_ms = 1000,
            .identity = identity,
            .identity_text = identity == RUN_IDENTITY ? "model seven" : "another model",
        },
        journal);
}

static inline pr_status run_open(bool resume, pr_journal **journal)
{
    return run_open_as(RUN_IDENTITY, resume, journal);
}

static inline pr_journal_claim run_claim(int64_t position)
{
    return (pr_journal_claim){
        .position = position, .number = position + 1, .line_hash = 1000 + (uint64_t)position};
}

static inline pr_token_report run_token(int64_t position, int32_t answer, int32_t index)
{
    static const pr_logprob top[] = {{5, -1.5f}, {6, -2.5f}, {7, -3.5f}};
    return (pr_token_report){
        .index = index,
        .token = (int32_t)position * 100 + answer * 10 + index,
        .finish = index + 1 == RUN_TOKENS ? PR_FINISH_LENGTH : PR_FINISH_NONE,
        .logprob = (float)index / 4,
        .tops = (int32_t)position % 4,
        .top = top,
    };
}

static inline void run_line(int64_t position, char line[128])
{
    int used = snprintf(line, 128, "{\"line\":%lld,\"tokens\":[", (long long)position);
    for (int32_t a = 0; a < RUN_ANSWERS; a++) {
        for (int32_t i = 0; i < RUN_TOKENS; i++)
            used += snprintf(
                line + used, 128 - (size_t)used, "%d ", (int)run_token(position, a, i).token);
    }
    snprintf(line + used, 128 - (size_t)used, "]}\n");
}

static inline void run_expected(char *text)
{
    for (int64_t p = 0; p < RUN_LINES; p++) {
        char line[128];
        run_line(p, line);
        text += sprintf(text, "%s", line);
    }
}

static inline int32_t run_known_tokens(const pr_journal *journal, int64_t position, int32_t answer)
{
    const pr_journal_entry *entry = pr_journal_index_find(pr_journal_known(journal), position);
    for (int32_t i = 0; entry && i < entry->answers; i++) {
        if (entry->answer[i].answer != answer)
            continue;
        for (int32_t t = 0; t < entry->answer[i].tokens; t++) {
            const pr_token_report *got = &entry->answer[i].token[t];
            const pr_token_report want = run_token(position, answer, t);
            assert_int_equal(got->index, t);
            assert_int_equal(got->token, want.token);
            assert_int_equal(got->finish, want.finish);
            assert_true(got->logprob == want.logprob);
            assert_int_equal(got->tops, want.tops);
            if (want.tops > 0)
                assert_memory_equal(got->top, want.top, (size_t)want.tops * sizeof *want.top);
        }
        return entry->answer[i].tokens;
    }
    return 0;
}

// Goes on with a line as a batch does: its known tokens, further ones, its result. Stops before a result
// if *tokens_left runs out. A flush after each token.
static inline pr_status run_go_on_with(pr_journal *journal, int64_t position, int32_t *tokens_left)
{
    char line[128];
    const pr_journal_claim claim = run_claim(position);
    const pr_journal_entry *known = pr_journal_index_find(pr_journal_known(journal), position);
    int32_t from[RUN_ANSWERS];
    if (known && known->done)
        return PR_OK;
    PR_TRY(pr_journal_add_claim(journal, &claim));
    for (int32_t a = 0; a < RUN_ANSWERS; a++)
        from[a] = run_known_tokens(journal, position, a);
    pr_journal_forget_tokens(journal, position);
    for (int32_t a = 0; a < RUN_ANSWERS; a++) {
        for (int32_t i = from[a]; i < RUN_TOKENS; i++) {
            if ((*tokens_left)-- <= 0)
                return pr_journal_flush(journal);
            const pr_token_report token = run_token(position, a, i);
            PR_TRY(pr_journal_add_token(journal, position, a, &token));
            PR_TRY(pr_journal_flush(journal));
        }
    }
    run_line(position, line);
    const pr_journal_result result = {
        .position = position,
        .prompt_tokens = 3,
        .output_tokens = (int64_t)RUN_TOKENS * RUN_ANSWERS,
        .refused = position == 1,
    };
    PR_TRY(pr_journal_add_result(journal, &result, line));
    return pr_journal_flush(journal);
}

// So many tokens more, in an order of lines that is not that of the input.
static inline pr_status run_go_on(pr_journal *journal, int32_t tokens)
{
    for (int64_t i = 0; i < RUN_LINES && tokens > 0; i++)
        PR_TRY(run_go_on_with(journal, (i * 2 + 1) % RUN_LINES, &tokens));
    return PR_OK;
}

// A journal of a run that was killed after so many tokens.
static inline void run_interrupted(int32_t tokens)
{
    pr_journal *journal;
    assert_int_equal(run_open(true, &journal), PR_OK);
    assert_int_equal(run_go_on(journal, tokens), PR_OK);
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
}

static inline void run_expect_output(void)
{
    char expected[128 * RUN_LINES];
    size_t size_bytes;
    char *got = run_read(run_output, &size_bytes);
    run_expected(expected);
    assert_non_null(got);
    assert_string_equal(got, expected);
    free(got);
}

// Resumes, whatever is there, to the end.
static inline void run_finish(void)
{
    pr_journal *journal;
    assert_int_equal(run_open(true, &journal), PR_OK);
    assert_int_equal(run_go_on(journal, INT32_MAX), PR_OK);
    assert_int_equal(pr_journal_known(journal)->totals.answered, RUN_LINES - 1);
    assert_int_equal(pr_journal_known(journal)->totals.refused, 1);
    assert_int_equal(pr_journal_assemble(journal, 0, RUN_LINES, true), PR_OK);
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
    pr_journal_discard(run_output);
    run_expect_output();
    assert_int_equal(access(run_path("out.journal"), F_OK), -1);
    assert_int_equal(unlink(run_output), 0);
}

#endif
