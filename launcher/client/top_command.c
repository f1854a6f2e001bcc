// SPDX-License-Identifier: BSD-3-Clause
// `polyreme top`: a serving run in a terminal, looked at again and again; or one report, as text or JSON.
//
//   look: endpoint (read again) -> GET /polyreme/status -> record -> picture -> screen
//
// A server that does not answer leaves the last picture with the reason above it. While a reply is waited for, keys
// and signals are looked at too.
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/client/client_endpoint.h"
#include "launcher/client/http_client.h"
#include "launcher/client/run_status.h"
#include "launcher/client/terminal.h"
#include "launcher/client/top_view.h"
#include "launcher/commands.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { STATUS_TIMEOUT_MS = 5000, REPORT_COLUMNS = 110 };

typedef struct top {
    const pr_options *options;
    pr_client_endpoint endpoint;
    pr_http_client *client;
    pr_terminal *terminal;
    pr_run_status status, before;
    bool known, known_before;
    double time_s, before_s;  // when they came
    pr_rate_history output;
    char note[512];
    bool unicode, leave;
    bool redraw;
    int signal;
} top;

static double now_s(void) { return (double)pr_clock_now_ns() * 1e-9; }

static void take_event(top *self, int32_t timeout_ms)
{
    char key = 0;
    switch (pr_terminal_wait(self->terminal, timeout_ms, &key, &self->signal)) {
    case PR_TERMINAL_KEY:
        self->leave = self->leave || key == 'q' || key == 'Q';
        break;
    case PR_TERMINAL_RESIZE:
        self->redraw = true;
        break;
    case PR_TERMINAL_END:
        self->leave = true;
        break;
    case PR_TERMINAL_NOTHING:
        break;
    }
}

static bool is_stopped(void *context)
{
    top *self = context;
    if (self->terminal)
        take_event(self, 0);
    return self->leave;
}

// ---- a look ----

static pr_status connect_again(top *self)
{
    pr_client_endpoint endpoint;
    PR_TRY(pr_client_endpoint_read(self->options, &endpoint));
    if (self->client && pr_client_endpoint_same(&endpoint, &self->endpoint)) {
        pr_client_endpoint_clear(&endpoint);
        return PR_OK;
    }
    pr_http_client_destroy(self->client);
    self->client = NULL;
    pr_client_endpoint_clear(&self->endpoint);
    self->endpoint = endpoint;
    pr_http_client_params params = {
        .url = endpoint.url,
        .unix_socket = endpoint.unix_socket,
        .key = endpoint.key,
        .ca_file = self->options->ssl_ca,
        .insecure = self->options->insecure,
        .direct = endpoint.from_file,
        .context = self,
        .stopped = is_stopped,
    };
    return pr_http_client_create(&params, &self->client);
}

static void take_status(top *self, const pr_run_status *status)
{
    if (self->known_before)
        pr_run_status_clear(&self->before);
    self->known_before = self->known;
    self->before = self->status;
    self->before_s = self->time_s;
    self->status = *status;
    self->known = true;
    self->time_s = now_s();
    double rate = status->generated_per_s;
    double tokens = status->generated_tokens - self->before.generated_tokens;
    if (self->known_before && tokens >= 0)
        rate = tokens / (self->time_s - self->before_s);
    pr_rate_history_add(&self->output, self->time_s, rate);
}

// *reply is NULL when the person left meanwhile.
static pr_status fetch(top *self, json_t **reply)
{
    PR_TRY(connect_again(self));
    pr_status status =
        pr_http_client_get(self->client, "/polyreme/status", STATUS_TIMEOUT_MS, reply);
    if (status == PR_ERR_REQUEST && pr_http_client_code(self->client) == 404)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "%s is another kind of server: only polyreme serve has a status to show",
            self->endpoint.url);
    return status;
}

static pr_status look(top *self)
{
    json_t *reply;
    pr_run_status status;
    PR_TRY(fetch(self, &reply));
    if (!reply)
        return PR_OK;
    pr_status parsed = pr_run_status_parse(reply, &status);
    json_decref(reply);
    if (parsed == PR_OK)
        take_status(self, &status);
    return parsed;
}

static pr_top_view view_of(const top *self)
{
    return (pr_top_view){
        .status = self->known ? &self->status : NULL,
        .before = self->known_before ? &self->before : NULL,
        .between_s = self->time_s - self->before_s,
        .now_s = now_s(),
        .url = self->endpoint.unix_socket ? self->endpoint.unix_socket
               : self->endpoint.url       ? self->endpoint.url
                                          : "",
        .note = self->note[0] ? self->note : NULL,
        .unicode = self->unicode,
    };
}

// ---- one report ----

static pr_status print_json(top *self)
{
    json_t *reply;
    PR_TRY(fetch(self, &reply));
    int failed = json_dumpf(reply, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(reply);
    if (failed || fflush(stdout) != 0)
        return pr_fail(PR_ERR_IO, "the report could not be written");
    return PR_OK;
}

static pr_status print_report(top *self)
{
    pr_byte_buffer text = {0};
    PR_TRY(look(self));
    pr_top_view view = view_of(self);
    view.columns = REPORT_COLUMNS;
    view.rows = INT_MAX;
    pr_top_view_render(&view, &text);
    pr_status status = pr_byte_buffer_check(&text);
    if (status == PR_OK && fwrite(text.data, 1, text.size_bytes, stdout) != text.size_bytes)
        status = pr_fail(PR_ERR_IO, "the report could not be written");
    pr_byte_buffer_free(&text);
    return status;
}

// ---- the screen ----

static void draw(top *self)
{
    pr_byte_buffer text = {0};
    pr_top_view view = view_of(self);
    pr_terminal_size(self->terminal, &view.columns, &view.rows);
    view.output = &self->output;
    view.colour = !getenv("NO_COLOR");
    view.keys = true;
    pr_top_view_render(&view, &text);
    if (!text.failed)
        pr_terminal_draw(self->terminal, text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
    self->redraw = false;
}

static void look_and_note(top *self)
{
    pr_status status = look(self);
    self->note[0] = '\0';
    if (status == PR_OK)
        return;
    int length = 0;
    if (self->known)
        length =
            snprintf(self->note, sizeof self->note, "as of %.0f s ago: ", now_s() - self->time_s);
    snprintf(self->note + length, sizeof self->note - (size_t)length, "%s", pr_error_text());
}

static void watch(top *self)
{
    while (!self->leave) {
        double next_s = now_s() + self->options->interval, left_s;
        look_and_note(self);
        draw(self);
        while (!self->leave && (left_s = next_s - now_s()) > 0) {
            take_event(self, (int32_t)(left_s * 1e3) + 1);
            if (self->redraw && !self->leave)
                draw(self);
        }
    }
}

// A wrong address or key is told at once, before there is a screen that could hide it.
static pr_status run_live(top *self)
{
    PR_TRY(look(self));
    PR_TRY(pr_terminal_open(&self->terminal));
    watch(self);
    pr_terminal_close(self->terminal);
    return PR_OK;
}

static pr_status run(top *self)
{
    if (self->options->json)
        return print_json(self);
    bool live = !self->options->once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    return live ? run_live(self) : print_report(self);
}

int pr_top_command(const pr_options *options)
{
    setlocale(LC_CTYPE, "");
    top self = {
        .options = options,
        .unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
    };
    pr_error_capture_begin();
    pr_status status = run(&self);
    if (status != PR_OK)
        fprintf(stderr, "polyreme top: %s\n", pr_error_text());
    pr_error_capture_end();
    pr_http_client_destroy(self.client);
    pr_client_endpoint_clear(&self.endpoint);
    if (self.known)
        pr_run_status_clear(&self.status);
    if (self.known_before)
        pr_run_status_clear(&self.before);
    return self.signal ? 128 + self.signal : pr_exit_code(status);
}
