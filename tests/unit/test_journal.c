// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "journal_run.h"
#include "launcher/journal/journal_writer.h"
#include "launcher/journal/model_identity.h"
#include "runtime/base/hash.h"

enum { TOKENS = RUN_LINES * RUN_ANSWERS * RUN_TOKENS, MOST_RECORDS = 200 };

// The only file of an interrupted run, and where its records end.
typedef struct sample {
    char *data;
    size_t size_bytes;
    int32_t records;
    size_t end[MOST_RECORDS];
} sample;

static void list_records(const char *path, sample *file)
{
    pr_journal_reader *reader;
    pr_journal_record record;
    bool more = true;
    file->records = 0;
    assert_int_equal(pr_journal_reader_open(path, &reader), PR_OK);
    for (;;) {
        assert_int_equal(pr_journal_reader_next(reader, &record, &more), PR_OK);
        if (!more)
            break;
        assert_true(file->records < MOST_RECORDS);
        file->end[file->records++] = (size_t)record.offset + pr_journal_padded(record.size_bytes);
    }
    pr_journal_reader_close(reader);
}

static sample make_sample(int32_t tokens)
{
    sample made = {0};
    run_interrupted(tokens);
    made.data = run_read(run_path("out.journal/000001.journal"), &made.size_bytes);
    list_records(run_path("out.journal/000001.journal"), &made);
    assert_true(made.records > 10);
    assert_int_equal(made.end[made.records - 1], made.size_bytes);
    return made;
}

static void put_sample(const void *data, size_t size_bytes)
{
    pr_journal_discard(run_output);
    assert_int_equal(mkdir(run_path("out.journal"), 0777), 0);
    run_write(run_path("out.journal/000001.journal"), data, size_bytes);
}

// What is refused says so in one line with this text.
static void expect_refusal(pr_status got, pr_status expected, const char *text)
{
    assert_int_equal(got, expected);
    if (!strstr(pr_error_text(), text))
        fail_msg("'%s' lacks '%s'", pr_error_text(), text);
}

// ---- Whole files ----

static void a_run_that_is_interrupted_after_any_token_is_gone_on_with(void **state)
{
    (void)state;
    for (int32_t tokens = 0; tokens <= TOKENS; tokens++) {
        run_interrupted(tokens);
        run_finish();
    }
}

static void so_is_one_that_is_interrupted_again_and_again(void **state)
{
    (void)state;
    for (int32_t tokens = 1; tokens < 6; tokens++) {
        for (int32_t runs = 0; runs * tokens < TOKENS; runs++)
            run_interrupted(tokens);
        run_finish();
    }
}

static void a_journal_that_is_not_finished_needs_resume(void **state)
{
    (void)state;
    pr_journal *journal;
    run_interrupted(9);
    pr_error_capture_begin();
    expect_refusal(run_open(false, &journal), PR_ERR_ARGUMENT, "go on with --resume");
    pr_error_capture_end();
    run_finish();
    assert_int_equal(run_open(false, &journal), PR_OK);
    assert_int_equal(pr_journal_close(journal, true), PR_OK);
    pr_journal_discard(run_output);
}

static void results_may_come_out_in_the_order_of_completion(void **state)
{
    (void)state;
    pr_journal *journal;
    size_t size_bytes;
    run_interrupted(15);
    assert_int_equal(run_open(true, &journal), PR_OK);
    assert_int_equal(run_go_on(journal, INT32_MAX), PR_OK);
    assert_int_equal(pr_journal_assemble(journal, 0, RUN_LINES, false), PR_OK);
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
    pr_journal_discard(run_output);
    char *got = run_read(run_output, &size_bytes), *at = got;
    for (int64_t i = 0; i < RUN_LINES; i++) {
        char line[128];
        run_line((i * 2 + 1) % RUN_LINES, line);
        assert_memory_equal(at, line, strlen(line));
        at += strlen(line);
    }
    assert_int_equal(at - got, size_bytes);
    free(got);
    assert_int_equal(unlink(run_output), 0);
}

static void a_result_longer_than_what_is_read_at_once_comes_out_whole(void **state)
{
    (void)state;
    enum { LONG = 9 << 20 };
    pr_journal *journal;
    size_t size_bytes;
    char *line = malloc(LONG + 1);
    memset(line, 'x', LONG);
    memcpy(line + LONG - 1, "\n", 2);
    assert_int_equal(run_open(true, &journal), PR_OK);
    for (int64_t i = 0; i < 2; i++) {
        const pr_journal_claim claim = run_claim(i);
        const pr_journal_result result = {.position = i};
        assert_int_equal(pr_journal_add_claim(journal, &claim), PR_OK);
        assert_int_equal(pr_journal_add_result(journal, &result, line + i), PR_OK);
    }
    assert_int_equal(pr_journal_close(journal, true), PR_OK);
    assert_int_equal(run_open(true, &journal), PR_OK);
    assert_int_equal(pr_journal_known(journal)->totals.answered, 2);
    assert_int_equal(pr_journal_assemble(journal, 0, 2, true), PR_OK);
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
    char *got = run_read(run_output, &size_bytes);
    assert_int_equal(size_bytes, 2 * LONG - 1);
    assert_memory_equal(got, line, LONG);
    assert_memory_equal(got + LONG, line + 1, LONG - 1);
    pr_journal_discard(run_output);
    unlink(run_output);
    free(got);
    free(line);
}

// ---- Files that are not whole ----

// Behind a cut there is nothing; behind damage, later records. Bytes between records say nothing.
static void expect_damage_is_seen(const sample *whole, size_t at)
{
    pr_journal_reader *reader;
    pr_journal_record record;
    bool more = true, damaged;
    int32_t records = 0;
    const char *path = run_path("out.journal/000001.journal");
    assert_int_equal(pr_journal_reader_open(path, &reader), PR_OK);
    while (more) {
        assert_int_equal(pr_journal_reader_next(reader, &record, &more), PR_OK);
        records += more;
    }
    assert_int_equal(pr_journal_reader_look_on(reader, &damaged), PR_OK);
    bool is_cut = at < whole->size_bytes && records < whole->records;
    bool is_last = at >= whole->end[whole->records - 2];
    assert_int_equal(damaged, is_cut && !is_last);
    pr_journal_reader_close(reader);
}

static void a_file_cut_at_any_byte_is_read_up_to_its_last_whole_record(void **state)
{
    (void)state;
    sample whole = make_sample(30);
    for (size_t length = 0; length < whole.size_bytes; length++) {
        sample cut;
        int32_t expected = 0;
        while (whole.end[expected] <= length)
            expected++;
        put_sample(whole.data, length);
        list_records(run_path("out.journal/000001.journal"), &cut);
        assert_int_equal(cut.records, expected);
        expect_damage_is_seen(&whole, whole.size_bytes);
        run_finish();
    }
    free(whole.data);
}

// It never gives a record that was not written: reading ends there, or the byte stood between records.
static void a_flipped_byte_never_gives_another_record(void **state)
{
    (void)state;
    sample whole = make_sample(30);
    pr_error_capture_begin();
    for (size_t at = 0; at < whole.size_bytes; at++) {
        for (int bits = 0x01; bits <= 0xff; bits = bits * 16 + 15) {
            pr_journal_reader *reader;
            pr_journal_record record;
            bool more = true;
            whole.data[at] ^= (char)bits;
            run_write(run_path("flipped"), whole.data, whole.size_bytes);
            whole.data[at] ^= (char)bits;
            assert_int_equal(pr_journal_reader_open(run_path("flipped"), &reader), PR_OK);
            for (;;) {
                assert_int_equal(pr_journal_reader_next(reader, &record, &more), PR_OK);
                if (!more)
                    break;
                assert_memory_equal(record.data, whole.data + record.offset, record.size_bytes);
            }
            pr_journal_reader_close(reader);
        }
        whole.data[at] ^= 0x55;
        put_sample(whole.data, whole.size_bytes);
        whole.data[at] ^= 0x55;
        expect_damage_is_seen(&whole, at);
        run_finish();
    }
    pr_error_capture_end();
    free(whole.data);
}

static void seal(void *data, pr_journal_kind kind, uint32_t number, uint32_t size_bytes)
{
    pr_journal_frame frame;
    pr_journal_record_seal(&frame, kind, number, (char *)data + sizeof frame, size_bytes);
    memcpy(data, &frame, sizeof frame);
}

static void sizes_that_cannot_be_end_a_file(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {UINT32_MAX, UINT32_MAX - 7, 1u << 31, 4096, 41, 47, 48};
    sample whole = make_sample(20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pr_journal_frame frame;
        sample got;
        memcpy(&frame, whole.data + whole.end[0], sizeof frame);
        frame.size_bytes = sizes[i];
        char *changed = malloc(whole.size_bytes);
        memcpy(changed, whole.data, whole.size_bytes);
        memcpy(changed + whole.end[0], &frame, sizeof frame);
        put_sample(changed, whole.size_bytes);
        list_records(run_path("out.journal/000001.journal"), &got);
        assert_int_equal(got.records, 1);
        run_finish();
        free(changed);
    }
    free(whole.data);
}

// Of each kind and of sizes around its own: what has no sense is left out, the rest stays.
static void records_with_a_good_checksum_and_no_sense_do_no_harm(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 7, 8, 31, 32, 33, 39, 40, 41, 64, 160};
    static const int64_t fill[] = {0, -1, 1, INT64_MAX, INT64_MIN, 3};
    for (int kind = 0; kind <= 9; kind++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (size_t f = 0; f < sizeof fill / sizeof *fill; f++) {
                _Alignas(8) char data[512] = {0};
                size_t size_bytes = sizeof(pr_journal_frame) + sizes[i];
                for (size_t at = 0; at + 8 <= sizes[i]; at += 8)
                    memcpy(data + sizeof(pr_journal_frame) + at, &fill[f], 8);
                if (kind == PR_JOURNAL_OPENING && sizes[i] >= 8)  // else it is of another model
                    memcpy(data + sizeof(pr_journal_frame), &(uint64_t){RUN_IDENTITY}, 8);
                seal(data, (pr_journal_kind)kind, 0, sizes[i]);
                put_sample(data, pr_journal_padded(size_bytes));
                pr_journal_index index;
                assert_int_equal(pr_journal_read(run_output, &index), PR_OK);
                int64_t claimed = index.totals.claimed, done = index.totals.answered;
                pr_journal_index_clear(&index);
                assert_true(claimed <= 1 && done == 0);
                if (claimed == 0)
                    run_finish();
            }
        }
    }
    pr_journal_discard(run_output);
}

static void a_journal_of_another_version_is_not_taken_for_an_empty_one(void **state)
{
    (void)state;
    pr_journal *journal;
    pr_journal_frame frame;
    sample whole = make_sample(20);
    memcpy(&frame, whole.data, sizeof frame);
    frame.version = PR_JOURNAL_VERSION + 1;
    uint64_t seed = pr_hash_bytes(0, &frame, offsetof(pr_journal_frame, checksum));
    frame.checksum = pr_hash_bytes(seed, whole.data + sizeof frame, frame.size_bytes);
    memcpy(whole.data, &frame, sizeof frame);
    put_sample(whole.data, whole.size_bytes);
    pr_error_capture_begin();
    expect_refusal(run_open(true, &journal), PR_ERR_FORMAT, "is of version 2, and this program");
    pr_error_capture_end();
    pr_journal_discard(run_output);
    free(whole.data);
}

// ---- What does not fit ----

static void a_journal_of_another_model_is_refused_with_both_names(void **state)
{
    (void)state;
    pr_journal *journal;
    run_interrupted(9);
    pr_error_capture_begin();
    expect_refusal(
        run_open_as(8, true, &journal), PR_ERR_ARGUMENT,
        "was begun with: model seven; now it is: another model.");
    pr_error_capture_end();
    assert_int_equal(access(run_path("out.journal/000002.journal"), F_OK), -1);
    run_finish();
}

static void a_line_that_has_changed_is_refused(void **state)
{
    (void)state;
    pr_journal *journal;
    pr_journal_claim claim = run_claim(1);
    run_interrupted(9);
    assert_int_equal(run_open(true, &journal), PR_OK);
    claim.line_hash++;
    pr_error_capture_begin();
    expect_refusal(
        pr_journal_add_claim(journal, &claim), PR_ERR_ARGUMENT, "line 2 of the input is not");
    pr_error_capture_end();
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
    run_finish();
}

// ---- Several runs at once ----

static void a_run_that_was_taken_over_ends_and_leaves_the_output_to_the_other(void **state)
{
    (void)state;
    pr_journal *slow, *quick;
    assert_int_equal(run_open(true, &slow), PR_OK);
    assert_int_equal(run_go_on(slow, 13), PR_OK);
    assert_int_equal(pr_journal_look_for_others(slow), PR_OK);
    assert_int_equal(run_open(true, &quick), PR_OK);
    pr_error_capture_begin();
    expect_refusal(pr_journal_look_for_others(slow), PR_ERR_PEER, "000002.journal; this one ends");
    assert_int_equal(run_go_on(slow, INT32_MAX), PR_OK);  // until it looks
    assert_int_equal(pr_journal_assemble(slow, 0, RUN_LINES, true), PR_ERR_PEER);
    assert_int_equal(access(run_output, F_OK), -1);
    assert_int_equal(pr_journal_look_for_others(quick), PR_OK);
    assert_int_equal(run_go_on(quick, INT32_MAX), PR_OK);
    assert_int_equal(pr_journal_assemble(quick, 0, RUN_LINES, true), PR_OK);
    pr_journal_discard(run_output);
    expect_refusal(pr_journal_look_for_others(slow), PR_ERR_PEER, "another run has finished");
    pr_error_capture_end();
    assert_int_equal(pr_journal_close(slow, false), PR_OK);
    assert_int_equal(pr_journal_close(quick, false), PR_OK);
    run_expect_output();
    assert_int_equal(unlink(run_output), 0);
}

static void what_two_runs_wrote_side_by_side_is_one_batch(void **state)
{
    (void)state;
    for (int32_t lead = 0; lead < TOKENS; lead += 3) {
        pr_journal *journal[2];
        assert_int_equal(run_open(true, &journal[0]), PR_OK);
        assert_int_equal(run_go_on(journal[0], lead), PR_OK);
        assert_int_equal(run_open(true, &journal[1]), PR_OK);
        assert_int_equal(run_go_on(journal[1], 11), PR_OK);
        assert_int_equal(run_go_on(journal[0], 17), PR_OK);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pr_journal_close(journal[i], false), PR_OK);
        run_finish();
    }
}

static void runs_that_begin_at_once_have_files_of_their_own(void **state)
{
    (void)state;
    enum { RUNS = 12 };
    int gate[2];
    pid_t child[RUNS];
    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < RUNS; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) {
            char byte;
            pr_journal *journal;
            close(gate[1]);
            bool fine = read(gate[0], &byte, 1) == 0 && run_open(true, &journal) == PR_OK &&
                        run_go_on(journal, i) == PR_OK && pr_journal_close(journal, false) == PR_OK;
            _exit(fine ? 0 : 1);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < RUNS; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    int32_t *number, numbers;
    assert_int_equal(pr_journal_folder_list(run_path("out.journal"), &number, &numbers), PR_OK);
    assert_int_equal(numbers, RUNS);
    for (int32_t i = 0; i < numbers; i++)
        assert_int_equal(number[i], i + 1);
    free(number);
    run_finish();
}

// ---- Disks ----

static void a_disk_that_is_full_at_any_byte_ends_the_run_and_resume_goes_on(void **state)
{
    (void)state;
    struct rlimit old, tight;
    sample whole = make_sample(20);
    pr_journal_discard(run_output);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    pr_error_capture_begin();
    for (size_t room = 0; room < whole.size_bytes; room += 5) {
        pr_journal *journal;
        tight = (struct rlimit){.rlim_cur = room, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        pr_status status = run_open(true, &journal);
        if (status == PR_OK) {
            status = run_go_on(journal, 20);
            expect_refusal(status, PR_ERR_IO, "make room there, then go on with --resume");
            (void)!pr_journal_close(journal, false);
        }
        assert_int_equal(status, PR_ERR_IO);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        run_finish();
    }
    pr_error_capture_end();
    signal(SIGXFSZ, handler);
    free(whole.data);
}

static void an_output_that_cannot_be_put_together_leaves_the_journal(void **state)
{
    (void)state;
    pr_journal *journal;
    assert_int_equal(mkdir(run_output, 0777), 0);
    assert_int_equal(run_open(true, &journal), PR_OK);
    assert_int_equal(run_go_on(journal, INT32_MAX), PR_OK);
    pr_error_capture_begin();
    expect_refusal(
        pr_journal_assemble(journal, 0, RUN_LINES, true), PR_ERR_IO, "go on with --resume");
    pr_error_capture_end();
    assert_int_equal(pr_journal_close(journal, false), PR_OK);
    assert_int_equal(access(run_path("out.journal/000001.output"), F_OK), -1);
    assert_int_equal(rmdir(run_output), 0);
    run_finish();
}

// The descriptor that this process has on the file.
static int descriptor_of(const char *path)
{
    DIR *open = opendir("/proc/self/fd");
    int found = -1;
    for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
        char name[300], target[300] = "";
        snprintf(name, sizeof name, "/proc/self/fd/%s", entry->d_name);
        if (readlink(name, target, sizeof target - 1) > 0 && strcmp(target, path) == 0)
            found = atoi(entry->d_name);
    }
    closedir(open);
    return found;
}

// A pipe takes what is written and cannot be synced.
static void a_disk_that_does_not_sync_ends_the_run(void **state)
{
    (void)state;
    static const int32_t sync_ms[] = {0, 1};
    for (int i = 0; i < 2; i++) {
        pr_journal_writer *writer;
        int ends[2];
        pr_status status = PR_OK;
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(
            pr_journal_writer_create(run_path("unsynced"), sync_ms[i], &writer), PR_OK);
        int descriptor = descriptor_of(run_path("unsynced"));
        assert_true(descriptor >= 0 && dup2(ends[1], descriptor) == descriptor);
        pr_error_capture_begin();
        while (status == PR_OK) {  // sync_ms > 0: the thread will tell
            assert_int_equal(
                pr_journal_writer_add(writer, PR_JOURNAL_CLOSING, NULL, 0, NULL, 0), PR_OK);
            status = pr_journal_writer_flush(writer);
            usleep(sync_ms[i] ? 20000 : 0);
        }
        expect_refusal(status, PR_ERR_IO, "cannot write the journal");
        (void)!pr_journal_writer_close(writer);
        pr_error_capture_end();
        close(ends[0]);
        close(ends[1]);
        assert_int_equal(unlink(run_path("unsynced")), 0);
    }
}

static void a_writer_never_writes_to_what_is_there(void **state)
{
    (void)state;
    pr_journal_writer *writer;
    run_write(run_path("there"), "x", 1);
    assert_int_equal(symlink("nowhere", run_path("link")), 0);
    assert_int_equal(pr_journal_writer_create(run_path("there"), 0, &writer), PR_ERR_NOT_FOUND);
    assert_int_equal(pr_journal_writer_create(run_path("link"), 0, &writer), PR_ERR_NOT_FOUND);
    pr_error_capture_begin();
    expect_refusal(
        pr_journal_writer_create(run_path("no/folder"), 0, &writer), PR_ERR_IO,
        "choose another place with -o");
    pr_error_capture_end();
    unlink(run_path("there"));
    unlink(run_path("link"));
}

static void other_files_in_the_folder_are_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "00001.journal", "0000001.journal", "000000.journal", "000001.journal.bak", "README"};
    enum { NAMES = sizeof names / sizeof *names };
    run_interrupted(9);
    for (int i = 0; i < NAMES; i++)
        run_write(run_path("out.journal/%s", names[i]), "x", 1);
    run_write(run_path("out.journal/000001.output"), "half", 4);
    pr_journal_discard(run_output);
    assert_int_equal(access(run_path("out.journal/000001.journal"), F_OK), -1);
    assert_int_equal(access(run_path("out.journal/000001.output"), F_OK), -1);
    for (int i = 0; i < NAMES; i++)
        assert_int_equal(unlink(run_path("out.journal/%s", names[i])), 0);
    assert_int_equal(rmdir(run_path("out.journal")), 0);
}

// ---- Identity ----

static void the_identity_of_a_model_follows_its_files(void **state)
{
    (void)state;
    uint64_t first, now;
    static char large[200000];
    assert_int_equal(mkdir(run_path("model"), 0777), 0);
    run_write(run_path("model/config.json"), "{}", 2);
    run_write(run_path("model/weights"), large, sizeof large);
    assert_int_equal(pr_model_identity(run_path("model"), &first), PR_OK);
    run_write(run_path("model/README.md"), "x", 1);
    run_write(run_path("model/.hidden"), "x", 1);
    assert_int_equal(pr_model_identity(run_path("model"), &now), PR_OK);
    assert_int_equal(now, first);
    run_write(run_path("model/config.json"), "[]", 2);
    assert_int_equal(pr_model_identity(run_path("model"), &now), PR_OK);
    assert_int_not_equal(now, first);
    run_write(run_path("model/config.json"), "{}", 2);
    large[sizeof large - 1] = 1;
    run_write(run_path("model/weights"), large, sizeof large);
    assert_int_equal(pr_model_identity(run_path("model"), &now), PR_OK);
    assert_int_not_equal(now, first);
    pr_error_capture_begin();
    expect_refusal(
        pr_model_identity(run_path("nothing"), &now), PR_ERR_IO, "cannot read the files");
    pr_error_capture_end();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_run_that_is_interrupted_after_any_token_is_gone_on_with),
    cmocka_unit_test(so_is_one_that_is_interrupted_again_and_again),
    cmocka_unit_test(a_journal_that_is_not_finished_needs_resume),
    cmocka_unit_test(results_may_come_out_in_the_order_of_completion),
    cmocka_unit_test(a_result_longer_than_what_is_read_at_once_comes_out_whole),
    cmocka_unit_test(a_file_cut_at_any_byte_is_read_up_to_its_last_whole_record),
    cmocka_unit_test(a_flipped_byte_never_gives_another_record),
    cmocka_unit_test(sizes_that_cannot_be_end_a_file),
    cmocka_unit_test(records_with_a_good_checksum_and_no_sense_do_no_harm),
    cmocka_unit_test(a_journal_of_another_version_is_not_taken_for_an_empty_one),
    cmocka_unit_test(a_journal_of_another_model_is_refused_with_both_names),
    cmocka_unit_test(a_line_that_has_changed_is_refused),
    cmocka_unit_test(a_run_that_was_taken_over_ends_and_leaves_the_output_to_the_other),
    cmocka_unit_test(what_two_runs_wrote_side_by_side_is_one_batch),
    cmocka_unit_test(runs_that_begin_at_once_have_files_of_their_own),
    cmocka_unit_test(a_disk_that_is_full_at_any_byte_ends_the_run_and_resume_goes_on),
    cmocka_unit_test(an_output_that_cannot_be_put_together_leaves_the_journal),
    cmocka_unit_test(a_disk_that_does_not_sync_ends_the_run),
    cmocka_unit_test(a_writer_never_writes_to_what_is_there),
    cmocka_unit_test(other_files_in_the_folder_are_left_alone),
    cmocka_unit_test(the_identity_of_a_model_follows_its_files),
};

int main(void)
{
    pr_log_set_level(PR_LOG_ERROR);  // damage warns
    return cmocka_run_group_tests(tests, run_make_folder, run_remove_folder);
}
