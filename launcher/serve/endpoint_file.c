// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/endpoint_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"

enum { FILE_BYTES = 65536, SOCKET_PATH_BYTES = 108 };

// ---- Writing ----

// PATH.key with its folder resolved, so that clients elsewhere find it.
static pr_status key_path(const char *path, char *key_file)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX], resolved[PATH_MAX] = "";
    int length = slash ? (int)(slash - path) : 1;
    if (slash == path)
        length = 1;
    if (length >= (int)sizeof folder)
        return pr_fail(PR_ERR_ARGUMENT, "the path of endpoint file %s is too long", path);
    snprintf(folder, sizeof folder, "%.*s", length, slash ? path : ".");
    if (!realpath(folder, resolved))
        return pr_fail(
            PR_ERR_IO, "cannot write endpoint file %s: %s: make the folder first", path,
            strerror(errno));
    int used = snprintf(
        key_file, PR_ENDPOINT_PATH_BYTES, "%s/%s.key", strcmp(resolved, "/") == 0 ? "" : resolved,
        slash ? slash + 1 : path);
    if (used >= PR_ENDPOINT_PATH_BYTES)
        return pr_fail(PR_ERR_ARGUMENT, "the path of endpoint file %s is too long", path);
    return PR_OK;
}

pr_status pr_endpoint_file_make_key(const char *path, pr_endpoint *endpoint)
{
    char key_file[PR_ENDPOINT_PATH_BYTES];
    PR_TRY(key_path(path, key_file));
    PR_TRY(pr_key_file_make(key_file, endpoint->api_key));
    memcpy(endpoint->api_key_file, key_file, sizeof key_file);
    return PR_OK;
}

static const char *text_or_null(const char *text) { return *text ? text : NULL; }

pr_status pr_endpoint_file_write(const char *path, const pr_endpoint *endpoint)
{
    json_t *end = endpoint->end_unix_s > 0 ? json_integer(endpoint->end_unix_s) : json_null();
    json_t *object = json_pack(
        "{s:s, s:s, s:i, s:s, s:s?, s:s?, s:I, s:s, s:o, s:s}", "url", endpoint->url, "host",
        endpoint->host, "port", (int)endpoint->port, "model", endpoint->model, "api_key_file",
        text_or_null(endpoint->api_key_file), "job_id", text_or_null(endpoint->job_id), "pid",
        (json_int_t)endpoint->pid, "state",
        endpoint->state == PR_ENDPOINT_READY ? "ready" : "draining", "end_unix_s", end, "version",
        endpoint->version);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    if (!text)
        return pr_fail(
            PR_ERR_ARGUMENT, "cannot write endpoint file %s: a name in it is not UTF-8", path);
    pr_status status = pr_atomic_file_write(path, 0644, text, strlen(text));
    free(text);
    return status;
}

// ---- Reading ----

static pr_status fail_field(const char *path, const char *what)
{
    return pr_fail(
        PR_ERR_FORMAT, "endpoint file %s: %s: give the file that polyreme serve writes", path,
        what);
}

static pr_status check_writers(const char *path, int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode))
        return pr_fail(PR_ERR_ARGUMENT, "endpoint file %s is not a file", path);
    if ((status.st_mode & S_IWOTH) != 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "anybody may write endpoint file %s, so it may lead anywhere: run chmod o-w on it",
            path);
    return PR_OK;
}

static pr_status read_text(const char *path, char *text, size_t *size_bytes)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return pr_fail(
            errno == ENOENT ? PR_ERR_NOT_FOUND : PR_ERR_IO,
            "cannot open endpoint file %s: %s: is polyreme serve --endpoint-file running and "
            "ready?",
            path, strerror(errno));
    pr_status status = check_writers(path, descriptor);
    ssize_t got = status == PR_OK ? read(descriptor, text, FILE_BYTES) : 0;
    if (got < 0)
        status = pr_fail(PR_ERR_IO, "cannot read endpoint file %s: %s", path, strerror(errno));
    else if (got == FILE_BYTES)
        status = fail_field(path, "it is too long");
    close(descriptor);
    *size_bytes = (size_t)got;
    return status;
}

// Absent and null are "" where that is allowed. No control characters: it is printed and sent.
static bool take_text(const json_t *object, const char *name, bool needed, char *text, size_t room)
{
    const json_t *value = json_object_get(object, name);
    if (!needed && (!value || json_is_null(value)))
        return true;
    const char *given = json_string_value(value);
    if (!given || strlen(given) >= room || (needed && !*given))
        return false;
    for (const char *at = given; *at; at++) {
        if (iscntrl((unsigned char)*at))
            return false;
    }
    memcpy(text, given, strlen(given) + 1);
    return true;
}

static bool is_host(const char *host, size_t length)
{
    bool bracketed = length > 2 && host[0] == '[' && host[length - 1] == ']';
    const char *allowed = bracketed ? "0123456789abcdefABCDEF:." : "-.";
    for (size_t i = bracketed; i < length - bracketed; i++) {
        if (!strchr(allowed, host[i]) && (bracketed || !isalnum((unsigned char)host[i])))
            return false;
    }
    return length > 0;
}

// http(s)://HOST:PORT/v1 and nothing more: no user, no other path, no query.
static bool split_url(const char *url, const char **host, size_t *length, int32_t *port)
{
    const char *at = strncmp(url, "http://", 7) == 0    ? url + 7
                     : strncmp(url, "https://", 8) == 0 ? url + 8
                                                        : NULL;
    const char *colon = at ? strrchr(at, ':') : NULL;
    if (!colon || !isdigit((unsigned char)colon[1]))
        return false;
    char *end;
    long number = strtol(colon + 1, &end, 10);
    *host = at;
    *length = (size_t)(colon - at);
    *port = (int32_t)number;
    return strcmp(end, "/v1") == 0 && number >= 1 && number <= 65535 && is_host(at, *length);
}

static pr_status check_url(const char *path, pr_endpoint *endpoint)
{
    const char *host;
    size_t length;
    int32_t port;
    if (strncmp(endpoint->url, "unix:/", 6) == 0) {
        if (strlen(endpoint->url + 5) >= SOCKET_PATH_BYTES)
            return fail_field(path, "the path of the unix socket is too long");
        endpoint->host[0] = '\0';
        endpoint->port = 0;
        return PR_OK;
    }
    if (!split_url(endpoint->url, &host, &length, &port))
        return fail_field(path, "url is not http(s)://HOST:PORT/v1 or unix:/PATH");
    if (*host == '[') {
        host++;
        length -= 2;
    }
    bool same = strlen(endpoint->host) == length && memcmp(endpoint->host, host, length) == 0;
    if (!same || endpoint->port != port)
        return fail_field(path, "host and port are not those of url");
    return PR_OK;
}

static pr_status take_fields(const char *path, const json_t *object, pr_endpoint *endpoint)
{
    const size_t room = PR_ENDPOINT_TEXT_BYTES;
    char state[16] = "";
    if (!take_text(object, "url", true, endpoint->url, room))
        return fail_field(path, "it has no url");
    if (!take_text(object, "model", true, endpoint->model, room))
        return fail_field(path, "it has no model");
    if (!take_text(object, "host", false, endpoint->host, room) ||
        !take_text(object, "job_id", false, endpoint->job_id, room) ||
        !take_text(object, "version", false, endpoint->version, room) ||
        !take_text(object, "api_key_file", false, endpoint->api_key_file, PR_ENDPOINT_PATH_BYTES))
        return fail_field(path, "host, job_id, version and api_key_file must be text or null");
    json_int_t port = json_integer_value(json_object_get(object, "port"));
    endpoint->port = port > 0 && port <= 65535 ? (int32_t)port : 0;
    endpoint->pid = json_integer_value(json_object_get(object, "pid"));
    json_int_t end_unix_s = json_integer_value(json_object_get(object, "end_unix_s"));
    endpoint->end_unix_s = end_unix_s > 0 ? end_unix_s : 0;
    if (!take_text(object, "state", true, state, sizeof state) ||
        (strcmp(state, "ready") != 0 && strcmp(state, "draining") != 0))
        return fail_field(path, "state is neither ready nor draining");
    endpoint->state = strcmp(state, "ready") == 0 ? PR_ENDPOINT_READY : PR_ENDPOINT_DRAINING;
    if (*endpoint->api_key_file && *endpoint->api_key_file != '/')
        return fail_field(path, "api_key_file is not an absolute path");
    return check_url(path, endpoint);
}

static pr_status parse(const char *path, pr_endpoint *endpoint)
{
    char text[FILE_BYTES];
    size_t size_bytes = 0;
    PR_TRY(read_text(path, text, &size_bytes));
    json_t *object = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, NULL);
    pr_status status = json_is_object(object) ? take_fields(path, object, endpoint)
                                              : fail_field(path, "it is not a JSON object");
    json_decref(object);
    return status;
}

pr_status pr_endpoint_file_read(const char *path, pr_endpoint *endpoint)
{
    pr_endpoint read = {0};
    PR_TRY(parse(path, &read));
    if (*read.api_key_file)
        PR_TRY(pr_key_file_read(read.api_key_file, read.api_key));
    *endpoint = read;
    return PR_OK;
}

bool pr_endpoint_file_names(const char *path, const pr_endpoint *endpoint)
{
    pr_endpoint there = {0};
    pr_error_capture_begin();
    bool same = parse(path, &there) == PR_OK && there.pid == endpoint->pid &&
                strcmp(there.job_id, endpoint->job_id) == 0 &&
                strcmp(there.url, endpoint->url) == 0;
    pr_error_capture_end();
    return same;
}

void pr_endpoint_file_remove(const char *path, const pr_endpoint *endpoint)
{
    char key_file[PR_ENDPOINT_PATH_BYTES];
    pr_error_capture_begin();
    bool made = key_path(path, key_file) == PR_OK && strcmp(key_file, endpoint->api_key_file) == 0;
    pr_error_capture_end();
    if (!pr_endpoint_file_names(path, endpoint))
        return;
    if (made)
        (void)unlink(key_file);
    (void)unlink(path);
}
