// SPDX-License-Identifier: BSD-3-Clause
// `polyreme chat`: a conversation in a terminal, the answers to the lines of a script, or one answer.
//
//   terminal          "> " lines in, text out as it comes, reasoning dim, commands, Ctrl-C ends an answer
//   standard input    one message a line, one answer after the other on standard output
//   -p TEXT           one message
//
// Text of the model reaches a terminal without its control characters, and anything else byte for byte.
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/client/chat_session.h"
#include "launcher/client/plain_text.h"
#include "launcher/commands.h"
#include "runtime/base/log.h"

typedef struct chat {
    const pr_options *options;
    pr_chat_session *session;
    bool terminal;     // standard output is one
    bool interactive;  // and so is standard input
    bool dim;          // escapes for reasoning
    bool reasoning;    // the last piece shown was
    bool begun;        // something of the answer is out
    pr_byte_buffer shown;
} chat;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

// Without SA_RESTART: a Ctrl-C also ends a read of the terminal.
static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

static bool is_stopped(void *context)
{
    (void)context;
    return interrupted;
}

static void notice(void *context, const char *text)
{
    (void)context;
    fflush(stdout);
    fprintf(stderr, "polyreme chat: %s\n", text);
}

// ---- what is shown ----

static void write_shown(chat *self)
{
    const char *text = self->shown.data;
    size_t size_bytes = self->shown.size_bytes;
    if (!self->begun) {
        size_t breaks = 0;
        while (breaks < size_bytes && text[breaks] == '\n')
            breaks++;
        text = size_bytes ? text + breaks : text;
        size_bytes -= breaks;
    }
    if (size_bytes == 0)
        return;
    self->begun = true;
    bool dim = self->reasoning && self->dim;
    fputs(dim ? "\033[2m" : "", stdout);
    fwrite(text, 1, size_bytes, stdout);
    fputs(dim ? "\033[0m" : "", stdout);
}

static void show(void *context, bool reasoning, const char *text, size_t size_bytes)
{
    chat *self = context;
    if (!self->terminal) {
        if (reasoning)
            return;
        fwrite(text, 1, size_bytes, stdout);
        self->begun = true;
        return;
    }
    if (reasoning != self->reasoning && self->begun) {
        fputs("\n\n", stdout);
        self->begun = false;
    }
    self->reasoning = reasoning;
    pr_byte_buffer_clear(&self->shown);
    pr_plain_text_stream(text, size_bytes, &self->shown);
    write_shown(self);
    fflush(stdout);
}

static void print_count(int64_t count, const char *what)
{
    if (count >= 0)
        fprintf(stderr, "%lld %s, ", (long long)count, what);
}

static void print_stats(const pr_chat_turn *turn)
{
    bool counted = turn->output_tokens >= 0;
    int64_t tokens = counted ? turn->output_tokens : turn->pieces;
    fputs("[", stderr);
    print_count(turn->prompt_tokens, "prompt tokens");
    print_count(tokens, counted ? "tokens" : "pieces");
    if (isnan(turn->first_s))
        fprintf(stderr, "%.3f s", turn->total_s);
    else
        fprintf(stderr, "first after %.3f s", turn->first_s);
    // Over the whole answer: a short one may come in a single piece, and nothing between first and last.
    if (tokens > 0 && turn->total_s > 0)
        fprintf(
            stderr, ", %.1f %s/s", (double)tokens / turn->total_s, counted ? "tokens" : "pieces");
    if (turn->finish[0] && strcmp(turn->finish, "stop") != 0)
        fprintf(stderr, ", ended by %s", turn->finish);
    fputs("]\n", stderr);
}

static void tell_error(void) { fprintf(stderr, "polyreme chat: %s\n", pr_error_text()); }

static pr_status say(chat *self, const char *text, size_t size_bytes)
{
    pr_chat_turn turn;
    interrupted = 0;
    self->reasoning = self->begun = false;
    pr_status status = pr_chat_session_say(self->session, text, size_bytes, &turn);
    if (status == PR_OK || self->begun)
        putchar('\n');
    fflush(stdout);
    if (status != PR_OK)
        tell_error();
    else if (turn.stopped)
        fputs("[stopped]\n", stderr);
    else if (self->terminal && strcmp(turn.finish, "length") == 0)
        fputs("[cut at the limit of tokens]\n", stderr);
    if (status == PR_OK && self->options->stats)
        print_stats(&turn);
    return status;
}

// ---- lines that are commands ----

static const char help_text[] =
    "/quit          leave, as Ctrl-D does\n"
    "/reset         forget the conversation\n"
    "/system TEXT   another system text, and a new conversation; without TEXT none\n"
    "/help          this\n"
    "//text         a message that begins with one slash\n"
    "Ctrl-C ends an answer; at the prompt, twice leaves.\n";

// A word of the line, and only that word or with a space behind it.
static bool begins_with_word(const char *line, const char *word)
{
    size_t length = strlen(word);
    return strncmp(line, word, length) == 0 && (line[length] == '\0' || line[length] == ' ');
}

static pr_status run_command(chat *self, const char *line, bool *leave)
{
    if (begins_with_word(line, "/quit") || begins_with_word(line, "/exit")) {
        *leave = true;
    } else if (begins_with_word(line, "/reset")) {
        return pr_chat_session_reset(self->session);
    } else if (begins_with_word(line, "/system")) {
        const char *text = line + strlen("/system");
        return pr_chat_session_set_system(self->session, text + strspn(text, " "));
    } else if (begins_with_word(line, "/help")) {
        fputs(help_text, stderr);
    } else {
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%.40s is no command: /help lists them, // begins a message with a slash", line);
    }
    return PR_OK;
}

static pr_status take_line(chat *self, const char *line, size_t size_bytes, bool *leave)
{
    if (line[0] == '/' && line[1] != '/') {
        pr_status status = run_command(self, line, leave);
        if (status != PR_OK)
            tell_error();
        return status;
    }
    size_t skip = line[0] == '/';
    return say(self, line + skip, size_bytes - skip);
}

// ---- the three ways in ----

// The status of the last line that failed: a script is told that something did.
static pr_status answer_lines(chat *self)
{
    char *line = NULL;
    size_t capacity = 0;
    bool leave = false;
    pr_status worst = PR_OK;
    for (ssize_t length; !leave && (length = getline(&line, &capacity, stdin)) >= 0;) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0)
            continue;
        pr_status status = take_line(self, line, (size_t)length, &leave);
        if (status != PR_OK)
            worst = status;
        leave = leave || interrupted;
    }
    free(line);
    return worst;
}

// Length of the next line, or -1: end of input. A first Ctrl-C begins the line anew, a second ends the input.
static ssize_t read_prompt(char **line, size_t *capacity)
{
    for (int interrupts = 0; interrupts < 2;) {
        interrupted = 0;
        fputs("> ", stdout);
        fflush(stdout);
        ssize_t length = getline(line, capacity, stdin);
        if (length >= 0)
            return length;
        if (!interrupted)
            break;
        clearerr(stdin);
        if (++interrupts == 1)
            fputs("\n(Ctrl-C again, or Ctrl-D, leaves)\n", stdout);
    }
    putchar('\n');
    return -1;
}

static pr_status converse(chat *self)
{
    const char *model;
    char *line = NULL;
    size_t capacity = 0;
    bool leave = false;
    pr_status status = pr_chat_session_connect(self->session, &model);
    if (status != PR_OK) {
        tell_error();
        return status;
    }
    pr_byte_buffer_clear(&self->shown);
    pr_plain_text_line(model, strlen(model), 80, &self->shown);
    printf(
        "Talking to %.*s. /help lists commands.\n", (int)self->shown.size_bytes,
        (const char *)self->shown.data);
    for (ssize_t length; !leave && (length = read_prompt(&line, &capacity)) >= 0;) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length > 0)
            (void)!take_line(self, line, (size_t)length, &leave);
    }
    free(line);
    return PR_OK;
}

static pr_status run(chat *self)
{
    if (self->options->prompt)
        return say(self, self->options->prompt, strlen(self->options->prompt));
    return self->interactive ? converse(self) : answer_lines(self);
}

int pr_chat_command(const pr_options *options)
{
    chat self = {
        .options = options,
        .terminal = isatty(STDOUT_FILENO),
        .interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
        .dim = !getenv("NO_COLOR"),
    };
    pr_chat_session_params params = {
        .options = options,
        .context = &self,
        .show = show,
        .notice = notice,
        .stopped = is_stopped,
    };
    pr_error_capture_begin();
    catch_interrupts();
    pr_status status = pr_chat_session_create(&params, &self.session);
    if (status != PR_OK)
        tell_error();
    else
        status = run(&self);
    bool cut_short = interrupted && !self.interactive;
    pr_chat_session_destroy(self.session);
    pr_byte_buffer_free(&self.shown);
    pr_error_capture_end();
    return cut_short ? 128 + SIGINT : pr_exit_code(status);
}
