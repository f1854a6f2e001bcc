// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/run_csv.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

static void print_time(FILE *file, double seconds)
{
    if (isnan(seconds))
        fputc(',', file);
    else
        fprintf(file, ",%.9f", seconds);
}

static void print_request(FILE *file, const pr_request_row *row)
{
    fprintf(file, "%lld", (long long)row->id);
    print_time(file, row->arrival_s);
    fprintf(
        file, ",%d,%d,%d,%d,%lld,%lld", (int)row->prompt_tokens, (int)row->outputs,
        (int)row->prefill_group, (int)row->decode_group, (long long)row->hit_tokens,
        (long long)row->fetch_tokens);
    print_time(file, row->prefill_start_s);
    print_time(file, row->first_s);
    print_time(file, row->join_s);
    print_time(file, row->finish_s);
    print_time(file, row->tbt_mean_s);
    print_time(file, row->tbt_tail_s);
    fprintf(
        file, ",%llu,%d,%s\n", (unsigned long long)row->tenant, (int)row->priority,
        row->rejected ? row->rejected : "");
}

static pr_status open_file(const char *path, FILE **file)
{
    *file = fopen(path, "w");
    if (!*file)
        return pr_fail(PR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return PR_OK;
}

static pr_status close_file(const char *path, FILE *file)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return pr_fail(PR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return PR_OK;
}

static pr_status write_requests(const pr_run_record *record, const char *path)
{
    FILE *file;
    PR_TRY(open_file(path, &file));
    fputs(
        "id,arrival,n_in,n_out,prefill_group,decode_group,hit_tokens,fetch_tokens,t_prefill_start,"
        "t_first,t_join,t_finish,tbt_mean,tbt_tail,tenant,priority,rejected\n",
        file);
    for (int64_t i = 0; i < record->requests; i++)
        print_request(file, &record->request[i]);
    return close_file(path, file);
}

static pr_status write_spans(const pr_run_record *record, const char *path)
{
    FILE *file;
    PR_TRY(open_file(path, &file));
    fputs("group,what,begin,end,id\n", file);
    for (int64_t i = 0; i < record->spans; i++) {
        const pr_span_row *span = &record->span[i];
        fprintf(
            file, "%d,%c,%.9f,%.9f,%lld\n", (int)span->group, span->what, span->begin_s,
            span->end_s, (long long)span->id);
    }
    return close_file(path, file);
}

pr_status pr_run_csv_write(const pr_run_record *record, const char *path)
{
    static const char ending[] = ".csv";
    PR_TRY(write_requests(record, path));
    if (record->most_spans == 0)
        return PR_OK;
    size_t length = strlen(path), cut = sizeof ending - 1;
    if (length > cut && strcmp(path + length - cut, ending) == 0)
        length -= cut;
    char *beside = malloc(length + sizeof ".spans.csv");
    if (!beside)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the name of a file");
    memcpy(beside, path, length);
    strcpy(beside + length, ".spans.csv");
    pr_status status = write_spans(record, beside);
    free(beside);
    return status;
}
