// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

#include "launcher/client/chat_reply.h"
#include "launcher/client/sse_reader.h"
#include "runtime/base/log.h"

// Events as one text, each in brackets.
static pr_status gather(void *context, const char *data, size_t size_bytes)
{
    pr_byte_buffer *all = context;
    assert_int_equal(data[size_bytes], '\0');
    pr_byte_buffer_append(all, "[", 1);
    pr_byte_buffer_append(all, data, size_bytes);
    pr_byte_buffer_append(all, "]", 1);
    return PR_OK;
}

// The stream in two pieces cut at `cut`, or byte by byte when cut is beyond its end.
static void assert_events(const char *stream, size_t size_bytes, size_t cut, const char *expected)
{
    pr_sse_reader reader = {0};
    pr_byte_buffer all = {0};
    if (cut <= size_bytes) {
        assert_int_equal(pr_sse_reader_feed(&reader, stream, cut, gather, &all), PR_OK);
        assert_int_equal(
            pr_sse_reader_feed(&reader, stream + cut, size_bytes - cut, gather, &all), PR_OK);
    } else {
        for (size_t at = 0; at < size_bytes; at++)
            assert_int_equal(pr_sse_reader_feed(&reader, stream + at, 1, gather, &all), PR_OK);
    }
    pr_byte_buffer_append(&all, "", 1);
    assert_string_equal((char *)all.data, expected);
    pr_byte_buffer_free(&all);
    pr_sse_reader_clear(&reader);
}

static void assert_events_at_every_cut(const char *stream, const char *expected)
{
    size_t size_bytes = strlen(stream);
    for (size_t cut = 0; cut <= size_bytes + 1; cut++)
        assert_events(stream, size_bytes, cut, expected);
}

static void events_do_not_depend_on_where_the_stream_is_cut(void **state)
{
    (void)state;
    assert_events_at_every_cut("data: a\n\ndata: b\n\n", "[a][b]");
    assert_events_at_every_cut("data: a\r\n\r\ndata: b\r\n\r\n", "[a][b]");
    assert_events_at_every_cut("data: a\r\rdata: b\r\r", "[a][b]");
    assert_events_at_every_cut(
        "\xef\xbb\xbf"
        "data: é\n\n",
        "[é]");
    assert_events_at_every_cut(
        ": hi\n\ndata: {\"a\":1}\n\n:\n\ndata: [DONE]\n\n", "[{\"a\":1}][[DONE]]");
}

static void lines_of_one_event_are_joined(void **state)
{
    (void)state;
    assert_events_at_every_cut("data: x\ndata:  y\ndata:z\ndata\n\n", "[x\n y\nz\n]");
    assert_events_at_every_cut("data: x\r\ndata: y\r\n\r\n", "[x\ny]");
    assert_events_at_every_cut("data: x\rdata: y\r\r", "[x\ny]");
}

static void other_fields_and_unended_events_are_skipped(void **state)
{
    (void)state;
    assert_events_at_every_cut("event: e\nid: 1\ndatax: no\nretry: 3\n dat: no\n\n", "");
    assert_events_at_every_cut("data: a\n\ndata: unended\n", "[a]");
    assert_events_at_every_cut("data: a\n\ndata: unended", "[a]");
    assert_events_at_every_cut("\n\n\r\n\r\r", "");
    assert_events_at_every_cut("", "");
    assert_events_at_every_cut("data\n\ndata:\n\n", "[][]");
}

static void nothing_is_lost_between_a_mark_and_a_nul(void **state)
{
    (void)state;
    assert_events("data: a\n\n\0data: b\n\ndata: c\n\n", 28, 3, "[a][c]");
}

static void an_event_beyond_the_maximum_is_refused(void **state)
{
    (void)state;
    enum { PIECE = 1 << 20 };
    static char piece[PIECE];
    memset(piece, 'a', sizeof piece);
    for (int with_lines = 0; with_lines < 2; with_lines++) {
        pr_sse_reader reader = {0};
        pr_byte_buffer all = {0};
        pr_status status = PR_OK;
        int pieces = 0;
        pr_error_capture_begin();
        while (status == PR_OK && pieces < 10) {
            memcpy(piece, "data: ", 6);
            piece[PIECE - 1] = with_lines ? '\n' : 'a';
            status = pr_sse_reader_feed(&reader, piece, sizeof piece, gather, &all);
            pieces++;
        }
        pr_error_capture_end();
        assert_int_equal(status, PR_ERR_FORMAT);
        assert_int_equal(pieces, 5);
        pr_sse_reader_clear(&reader);
    }
}

static pr_status refuse(void *context, const char *data, size_t size_bytes)
{
    (void)data;
    (void)size_bytes;
    ++*(int *)context;
    return PR_ERR_REQUEST;
}

static void a_failing_event_ends_the_feed(void **state)
{
    (void)state;
    pr_sse_reader reader = {0};
    int calls = 0;
    static const char stream[] = "data: a\n\ndata: b\n\n";
    assert_int_equal(
        pr_sse_reader_feed(&reader, stream, sizeof stream - 1, refuse, &calls), PR_ERR_REQUEST);
    assert_int_equal(calls, 1);
    pr_sse_reader_clear(&reader);
}

// ---- what events mean to a chat ----

static void gather_text(void *context, bool reasoning, const char *text, size_t size_bytes)
{
    pr_byte_buffer *all = context;
    pr_byte_buffer_append(all, reasoning ? "~" : "", reasoning ? 1 : 0);
    pr_byte_buffer_append(all, text, size_bytes);
}

static pr_status take(pr_chat_reply *reply, const char *event)
{
    pr_error_capture_begin();
    pr_status status = pr_chat_reply_event(reply, event, strlen(event));
    pr_error_capture_end();
    return status;
}

static pr_chat_reply new_reply(pr_byte_buffer *shown)
{
    return (pr_chat_reply){
        .context = shown, .show = gather_text, .prompt_tokens = -1, .output_tokens = -1};
}

static void a_reply_is_the_sum_of_its_pieces(void **state)
{
    (void)state;
    static const char *const events[] = {
        "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"hm\"}}]}",
        "{\"choices\":[{\"delta\":{\"reasoning\":\"er\",\"content\":\"\"}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}",
        "{\"choices\":[{\"delta\":{\"content\":\" \\u0000é\"}}],\"error\":null}",
        "{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}",
        "[DONE]",
    };
    pr_byte_buffer shown = {0};
    pr_chat_reply reply = new_reply(&shown);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        assert_false(reply.done);
        assert_int_equal(take(&reply, events[i]), PR_OK);
    }
    assert_true(reply.done);
    assert_int_equal(reply.content.size_bytes, 6);
    assert_memory_equal(reply.content.data, "Hi \0é", 6);
    assert_int_equal(shown.size_bytes, 12);
    assert_memory_equal(shown.data, "~hm~erHi \0é", 12);
    assert_int_equal(reply.pieces, 4);
    assert_int_equal(reply.prompt_tokens, 9);
    assert_int_equal(reply.output_tokens, 4);
    assert_string_equal(reply.finish, "length");
    pr_byte_buffer_free(&shown);
    pr_chat_reply_clear(&reply);
}

static void an_error_object_in_the_stream_is_told(void **state)
{
    (void)state;
    pr_byte_buffer shown = {0};
    pr_chat_reply reply = new_reply(&shown);
    assert_int_equal(
        take(&reply, "{\"error\":{\"message\":\"rank 3 \\u001b[2Jwas lost\"}}"), PR_ERR_REQUEST);
    assert_string_equal(pr_error_text(), "the server gave up this answer: rank 3 [2Jwas lost");
    assert_int_equal(take(&reply, "{\"error\":\"full\"}"), PR_ERR_REQUEST);
    assert_string_equal(pr_error_text(), "the server gave up this answer: full");
    assert_int_equal(take(&reply, "not json"), PR_ERR_FORMAT);
    assert_int_equal(take(&reply, "[1]"), PR_ERR_FORMAT);
    pr_chat_reply_clear(&reply);
}

static void fields_of_another_type_are_skipped(void **state)
{
    (void)state;
    static const char *const events[] = {
        "",
        "{}",
        "{\"choices\":3}",
        "{\"choices\":[]}",
        "{\"choices\":[null]}",
        "{\"choices\":[{\"delta\":[1]}]}",
        "{\"choices\":[{\"delta\":{\"content\":[\"a\"]}}]}",
        "{\"choices\":[{\"finish_reason\":7}],\"usage\":[1]}",
        "{\"usage\":{\"prompt_tokens\":\"9\",\"completion_tokens\":1.5}}",
    };
    pr_byte_buffer shown = {0};
    pr_chat_reply reply = new_reply(&shown);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        assert_int_equal(take(&reply, events[i]), PR_OK);
    assert_int_equal(shown.size_bytes, 0);
    assert_int_equal(reply.prompt_tokens, -1);
    assert_int_equal(reply.output_tokens, -1);
    assert_string_equal(reply.finish, "");
    pr_chat_reply_clear(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_do_not_depend_on_where_the_stream_is_cut),
        cmocka_unit_test(lines_of_one_event_are_joined),
        cmocka_unit_test(other_fields_and_unended_events_are_skipped),
        cmocka_unit_test(nothing_is_lost_between_a_mark_and_a_nul),
        cmocka_unit_test(an_event_beyond_the_maximum_is_refused),
        cmocka_unit_test(a_failing_event_ends_the_feed),
        cmocka_unit_test(a_reply_is_the_sum_of_its_pieces),
        cmocka_unit_test(an_error_object_in_the_stream_is_told),
        cmocka_unit_test(fields_of_another_type_are_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
