// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "launcher/simulate/trace_line.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/base/sha256.h"

enum { READ_BYTES = 1 << 16 };

// What the last group of equal stamps is spread over: the distance of stamps in Mooncake's traces.
static const double LAST_SPREAD_S = 3;

// The file as it was read, before spreading and copying.
typedef struct reading {
    const pr_trace_params *params;
    pr_byte_buffer text;   // unpacked, ends with a zero
    pr_byte_buffer lines;  // pr_trace_line
    pr_byte_buffer ids;    // int64_t, of all lines
    int64_t count;         // lines; may be more than the caller wants: the next stamp
} reading;

static const pr_trace_line *line_at(const reading *file, int64_t at)
{
    return (const pr_trace_line *)file->lines.data + at;
}

// ---- The file ----

static pr_status hash_file(const char *path, char text[65])
{
    unsigned char part[READ_BYTES];
    pr_sha256 hash;
    FILE *file = fopen(path, "rb");
    if (!file)
        return pr_fail(PR_ERR_NOT_FOUND, "cannot read the trace %s: %s", path, strerror(errno));
    pr_sha256_begin(&hash);
    for (size_t size_bytes; (size_bytes = fread(part, 1, sizeof part, file)) > 0;)
        pr_sha256_add(&hash, part, size_bytes);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed)
        return pr_fail(PR_ERR_IO, "cannot read the trace %s: %s", path, strerror(errno));
    pr_sha256_end(&hash, text);
    return PR_OK;
}

static pr_status unpack(const char *path, pr_byte_buffer *text)
{
    unsigned char part[READ_BYTES];
    gzFile file = gzopen(path, "rb");
    if (!file)
        return pr_fail(PR_ERR_NOT_FOUND, "cannot read the trace %s: %s", path, strerror(errno));
    int size_bytes;
    while ((size_bytes = gzread(file, part, sizeof part)) > 0)
        pr_byte_buffer_append(text, part, (size_t)size_bytes);
    int closed = gzclose(file);
    if (size_bytes < 0 || closed != Z_OK)
        return pr_fail(PR_ERR_FORMAT, "the trace %s is cut off or damaged (gzip)", path);
    pr_byte_buffer_append(text, "", 1);
    return pr_byte_buffer_check(text);
}

// ---- Lines ----

// Cuts the next line off, without its end; NULL: no more.
static char *next_line(char **rest)
{
    char *line = *rest;
    if (*line == '\0')
        return NULL;
    char *end = line + strcspn(line, "\n");
    *rest = *end ? end + 1 : end;
    if (end > line && end[-1] == '\r')
        end--;
    *end = '\0';
    return line;
}

static bool has_enough(const reading *file)
{
    int64_t most = file->params->most;
    return most > 0 && file->count > most &&
           line_at(file, file->count - 1)->stamp_s > line_at(file, most - 1)->stamp_s;
}

static pr_status add_line(reading *file, int64_t number, const pr_trace_line *line)
{
    if (file->count > 0 && line->stamp_s < line_at(file, file->count - 1)->stamp_s)
        return pr_fail(
            PR_ERR_FORMAT, "%s line %lld: its stamp is before that of the line above",
            file->params->path, (long long)number);
    pr_byte_buffer_append(&file->lines, line, sizeof *line);
    file->count++;
    return pr_byte_buffer_check(&file->lines);
}

static pr_status read_lines(reading *file)
{
    const char *path = file->params->path;
    char *rest = file->text.data, *text;
    bool json = rest[strspn(rest, " \t\r\n")] == '{';
    pr_trace_columns columns;
    for (int64_t number = 1; !has_enough(file) && (text = next_line(&rest)); number++) {
        pr_trace_line line;
        if (text[strspn(text, " \t")] == '\0')
            continue;
        if (json) {
            PR_TRY(pr_trace_line_read_json(
                path, number, text, file->params->block_tokens, &line, &file->ids));
        } else if (number == 1) {
            PR_TRY(pr_trace_columns_read(path, text, &columns));
            continue;
        } else {
            PR_TRY(pr_trace_line_read_csv(path, number, text, &columns, &line));
        }
        PR_TRY(add_line(file, number, &line));
    }
    if (file->count == 0)
        return pr_fail(PR_ERR_FORMAT, "the trace %s has no requests", path);
    return pr_byte_buffer_check(&file->ids);
}

// ---- Arrivals ----

// Uniform in (0, 1], the k-th of the seed.
static double draw(uint64_t seed, int64_t k)
{
    uint64_t bits = pr_hash_mix(seed + 0x9e3779b97f4a7c15u * (uint64_t)(k + 1));
    return (double)((bits >> 11) + 1) * 0x1p-53;
}

// A trace without stamps gets a Poisson process.
static pr_status make_stamps(reading *file)
{
    pr_trace_line *line = file->lines.data;
    double now_s = 0;
    if (!isnan(line->stamp_s))
        return PR_OK;
    if (file->params->rate_per_s <= 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "the trace %s has no arrival times: give --rate, requests per second",
            file->params->path);
    for (int64_t i = 0; i < file->count; i++) {
        now_s -= log(draw(file->params->seed, i)) / file->params->rate_per_s;
        line[i].stamp_s = now_s;
    }
    return PR_OK;
}

// Copies of a line arrive as neighbours, so they are spread with it: see the header.
static void set_arrivals(const reading *file, pr_trace *trace)
{
    int64_t copies = file->params->copies;
    for (int64_t i = 0, j; i < file->count && i * copies < trace->requests; i = j) {
        double t = line_at(file, i)->stamp_s;
        for (j = i + 1; j < file->count && line_at(file, j)->stamp_s <= t;)
            j++;
        double gap_s = j < file->count ? line_at(file, j)->stamp_s - t : LAST_SPREAD_S;
        int64_t m = (j - i) * copies;
        for (int64_t k = 0; k < m && i * copies + k < trace->requests; k++)
            trace->request[i * copies + k].arrival_s =
                file->params->raw ? t : t + (double)k * gap_s / (double)m;
    }
}

// ---- Blocks ----

// Whether all requests with ids begin with the same one, as under one system prompt.
static bool has_universal_block(const reading *file, int64_t lines)
{
    const int64_t *id = file->ids.data;
    int64_t first = 0;
    bool seen = false;
    for (int64_t i = 0; i < lines; i++) {
        int32_t blocks = line_at(file, i)->blocks;
        if (blocks > 0 && seen && *id != first)
            return false;
        if (blocks > 0 && !seen)
            first = *id;
        seen = seen || blocks > 0;
        id += blocks;
    }
    return seen;
}

// An id stands for a whole prefix already; the hash only spreads it. Copy 0 is the trace itself.
static uint64_t hash_id(int64_t id, int64_t copy)
{
    uint64_t salt = copy == 0 ? 0 : pr_hash_mix((uint64_t)copy + 0x9e3779b97f4a7c15u);
    return pr_hash_mix(((uint64_t)id + 0x9e3779b97f4a7c15u) ^ salt);
}

static int64_t count_blocks(const reading *file, int64_t lines)
{
    int64_t blocks = 0;
    for (int64_t i = 0; i < lines; i++)
        blocks += line_at(file, i)->blocks;
    return blocks;
}

static void fill_requests(const reading *file, int64_t lines, pr_trace *trace)
{
    bool universal = has_universal_block(file, lines);
    const int64_t *id = file->ids.data;
    uint64_t *block = trace->block;
    pr_trace_request *request = trace->request;
    for (int64_t i = 0; i < lines; i++) {
        const pr_trace_line *line = line_at(file, i);
        for (int64_t copy = 0; copy < file->params->copies; copy++) {
            *request++ = (pr_trace_request){
                .prompt_tokens = line->prompt_tokens,
                .outputs = line->outputs,
                .tenant = line->tenant,
                .blocks = line->blocks,
                .block = block,
            };
            for (int32_t b = 0; b < line->blocks; b++)
                *block++ = hash_id(id[b], b == 0 && universal ? 0 : copy);
        }
        id += line->blocks;
    }
}

static pr_status build(reading *file, pr_trace *trace)
{
    const pr_trace_params *params = file->params;
    int64_t lines = params->most > 0 && params->most < file->count ? params->most : file->count;
    int64_t blocks = count_blocks(file, lines) * params->copies;
    trace->made_arrivals = isnan(line_at(file, 0)->stamp_s);
    PR_TRY(make_stamps(file));
    trace->requests = lines * params->copies;
    trace->request = calloc((size_t)trace->requests, sizeof *trace->request);
    trace->block = malloc(((size_t)blocks + 1) * sizeof *trace->block);
    if (!trace->request || !trace->block)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for %lld requests and %lld blocks of the trace %s",
            (long long)trace->requests, (long long)blocks, params->path);
    trace->block_tokens = blocks > 0 ? params->block_tokens : 0;
    fill_requests(file, lines, trace);
    set_arrivals(file, trace);
    return PR_OK;
}

pr_status pr_trace_read(const pr_trace_params *params, pr_trace *trace)
{
    pr_trace_params checked = *params;
    if (checked.block_tokens <= 0)
        checked.block_tokens = 512;
    if (checked.copies <= 0)
        checked.copies = 1;
    reading file = {.params = &checked};
    pr_trace made = {0};
    pr_status status = hash_file(params->path, made.sha256);
    if (status == PR_OK)
        status = unpack(params->path, &file.text);
    if (status == PR_OK)
        status = read_lines(&file);
    if (status == PR_OK)
        status = build(&file, &made);
    pr_byte_buffer_free(&file.text);
    pr_byte_buffer_free(&file.lines);
    pr_byte_buffer_free(&file.ids);
    if (status == PR_OK)
        *trace = made;
    else
        pr_trace_free(&made);
    return status;
}

void pr_trace_free(pr_trace *trace)
{
    free(trace->request);
    free(trace->block);
    *trace = (pr_trace){0};
}
