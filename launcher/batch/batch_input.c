// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/batch_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

typedef struct stored_line {
    char *text;
    size_t size_bytes;
    bool too_long, elsewhere;
    int64_t number, position;
} stored_line;

struct pr_batch_input {
    char *path;
    int descriptor;
    bool ended;     // nothing more comes from the descriptor
    bool overlong;  // the beginning of the current line was thrown away
    char *buffer;   // [capacity]: what was read and not yet given out is [begin, end)
    size_t capacity, begin, end, searched;
    int64_t number, position;  // position: in the whole input
    int64_t part_begin, part_end;
    bool shuffled;
    stored_line *stored;  // when shuffled
    int64_t count, next;
};

enum { READ_BYTES = 1 << 16 };

static pr_status make_room(pr_batch_input *input)
{
    if (input->begin > 0)
        memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
    input->end -= input->begin;
    input->searched -= input->begin;
    input->begin = 0;
    if (input->end + READ_BYTES <= input->capacity)
        return PR_OK;
    size_t capacity = input->capacity * 2 + READ_BYTES;
    char *grown = realloc(input->buffer, capacity);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a line of %zu bytes", capacity);
    input->buffer = grown;
    input->capacity = capacity;
    return PR_OK;
}

// Reads what is there; *later: nothing is, and waiting for it is not wanted.
static pr_status read_more(pr_batch_input *input, bool wait, bool *later)
{
    struct pollfd ready = {.fd = input->descriptor, .events = POLLIN};
    PR_TRY(make_room(input));
    *later = poll(&ready, 1, wait ? -1 : 0) == 0;
    if (*later)
        return PR_OK;
    ssize_t got = read(input->descriptor, input->buffer + input->end, READ_BYTES);
    if (got < 0 && errno != EINTR && errno != EAGAIN)
        return pr_fail(PR_ERR_IO, "cannot read %s: %s", input->path, strerror(errno));
    input->ended = got == 0;
    input->end += got > 0 ? (size_t)got : 0;
    return PR_OK;
}

// Cuts the next line off the buffer, with or without its newline at the end of the file.
static bool cut_line(pr_batch_input *input, const char **text, size_t *length)
{
    char *newline = NULL;
    if (input->end > input->searched)
        newline = memchr(input->buffer + input->searched, '\n', input->end - input->searched);
    input->searched = input->end;
    bool rest = input->begin < input->end || input->overlong;
    if (!newline && (!input->ended || !rest))
        return false;
    size_t end = newline ? (size_t)(newline - input->buffer) : input->end;
    *text = input->buffer + input->begin;
    *length = end - input->begin;
    input->begin = input->searched = newline ? end + 1 : end;
    input->number++;
    return true;
}

// Keeps memory bounded, whatever comes.
static void drop_overlong(pr_batch_input *input)
{
    if (input->end - input->begin <= PR_MAX_LINE_BYTES)
        return;
    input->begin = input->end = input->searched = 0;
    input->overlong = true;
}

static bool is_blank(char byte) { return byte == ' ' || byte == '\t' || byte == '\r'; }

// The next non-empty line.
static pr_status
read_line(pr_batch_input *input, bool wait, pr_input_line *line, pr_input_state *state)
{
    for (;;) {
        const char *text;
        size_t length;
        bool later = false;
        while (!cut_line(input, &text, &length)) {
            if (input->ended) {
                *state = PR_INPUT_END;
                return PR_OK;
            }
            drop_overlong(input);
            PR_TRY(read_more(input, wait, &later));
            if (later) {
                *state = PR_INPUT_LATER;
                return PR_OK;
            }
        }
        bool too_long = input->overlong;
        input->overlong = false;
        while (length > 0 && is_blank(text[length - 1]))
            length--;
        if (length == 0 && !too_long)
            continue;
        int64_t position = input->position++;
        *line = (pr_input_line){
            .text = text,
            .size_bytes = too_long ? 0 : length,
            .too_long = too_long,
            .elsewhere = position < input->part_begin,
            .number = input->number,
            .position = position - input->part_begin,
        };
        *state = position < input->part_end ? PR_INPUT_LINE : PR_INPUT_END;
        return PR_OK;
    }
}

static pr_status store_line(pr_batch_input *input, const pr_input_line *line, int64_t *capacity)
{
    if (input->count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 256;
        stored_line *grown = realloc(input->stored, (size_t)*capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory to shuffle %s", input->path);
        input->stored = grown;
    }
    char *text = malloc(line->size_bytes + 1);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "no memory to shuffle %s", input->path);
    memcpy(text, line->text, line->size_bytes);
    input->stored[input->count++] = (stored_line){
        .text = text,
        .size_bytes = line->size_bytes,
        .too_long = line->too_long,
        .elsewhere = line->elsewhere,
        .number = line->number,
        .position = line->position,
    };
    return PR_OK;
}

// Fisher and Yates with a counter-based draw.
static pr_status read_shuffled(pr_batch_input *input, uint64_t seed)
{
    pr_input_line line;
    pr_input_state state;
    int64_t capacity = 0;
    for (;;) {
        PR_TRY(read_line(input, true, &line, &state));
        if (state == PR_INPUT_END)
            break;
        PR_TRY(store_line(input, &line, &capacity));
    }
    for (int64_t i = input->count - 1; i > 0; i--) {
        int64_t j = (int64_t)(pr_hash_mix(seed + (uint64_t)i) % (uint64_t)(i + 1));
        stored_line other = input->stored[j];
        input->stored[j] = input->stored[i];
        input->stored[i] = other;
    }
    return PR_OK;
}

static pr_status open_file(pr_batch_input *input)
{
    struct stat status;
    bool standard = strcmp(input->path, "-") == 0;
    input->descriptor = standard ? dup(STDIN_FILENO) : open(input->path, O_RDONLY | O_CLOEXEC);
    if (input->descriptor < 0)
        return pr_fail(
            PR_ERR_NOT_FOUND, "cannot read input %s: %s: give a JSONL file with -i", input->path,
            strerror(errno));
    if (fstat(input->descriptor, &status) == 0 && S_ISDIR(status.st_mode))
        return pr_fail(
            PR_ERR_NOT_FOUND, "input %s is a folder: give a JSONL file with -i", input->path);
    return PR_OK;
}

// ---- Parts ----

static pr_status parse_part(const char *text, int64_t *part, int64_t *parts)
{
    char *slash, *end = NULL;
    long long number = strtoll(text, &slash, 10), of = 0;
    if (slash != text && *slash == '/')
        of = strtoll(slash + 1, &end, 10);
    if (!end || *end != '\0' || number < 0 || of < 1 || number >= of || of > 1000000)
        return pr_fail(
            PR_ERR_ARGUMENT, "--part %s is not I/N with 0 <= I < N: the third of four is 2/4",
            text);
    *part = number;
    *parts = of;
    return PR_OK;
}

// Reads all of the file to count its lines, then goes back to its beginning.
static pr_status find_part(pr_batch_input *input, const char *text)
{
    int64_t part = 0, parts = 1;
    PR_TRY(parse_part(text, &part, &parts));
    if (lseek(input->descriptor, 0, SEEK_CUR) != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "--part needs an input that can be read twice: give a file with -i");
    for (pr_input_state state = PR_INPUT_LINE; state != PR_INPUT_END;) {
        pr_input_line line;
        PR_TRY(read_line(input, true, &line, &state));
    }
    int64_t lines = input->position;
    if (lseek(input->descriptor, 0, SEEK_SET) != 0)
        return pr_fail(PR_ERR_IO, "cannot read %s again: %s", input->path, strerror(errno));
    input->ended = input->overlong = false;
    input->begin = input->end = input->searched = 0;
    input->number = input->position = 0;
    input->part_begin = lines * part / parts;
    input->part_end = lines * (part + 1) / parts;
    return PR_OK;
}

pr_status pr_batch_input_open(
    const char *path, uint64_t shuffle_seed, const char *part, pr_batch_input **input)
{
    pr_batch_input *made = calloc(1, sizeof *made);
    if (made)
        made->path = strdup(path);
    if (!made || !made->path) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the input");
    }
    made->shuffled = shuffle_seed != 0;
    made->descriptor = -1;
    made->part_end = INT64_MAX;
    pr_status status = open_file(made);
    if (status == PR_OK && part)
        status = find_part(made, part);
    if (status == PR_OK && made->shuffled)
        status = read_shuffled(made, shuffle_seed);
    if (status != PR_OK) {
        pr_batch_input_close(made);
        return status;
    }
    *input = made;
    return PR_OK;
}

void pr_batch_input_close(pr_batch_input *input)
{
    if (!input)
        return;
    for (int64_t i = 0; i < input->count; i++)
        free(input->stored[i].text);
    free(input->stored);
    if (input->descriptor >= 0)
        close(input->descriptor);
    free(input->buffer);
    free(input->path);
    free(input);
}

pr_status pr_batch_input_next(pr_batch_input *input, pr_input_line *line, pr_input_state *state)
{
    if (!input->shuffled)
        return read_line(input, false, line, state);
    *state = input->next < input->count ? PR_INPUT_LINE : PR_INPUT_END;
    if (*state == PR_INPUT_END)
        return PR_OK;
    const stored_line *stored = &input->stored[input->next++];
    *line = (pr_input_line){
        .text = stored->text,
        .size_bytes = stored->size_bytes,
        .too_long = stored->too_long,
        .elsewhere = stored->elsewhere,
        .number = stored->number,
        .position = stored->position,
    };
    return PR_OK;
}
