// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/client_endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launcher/serve/endpoint_file.h"
#include "runtime/base/log.h"

static const char local_url[] = "http://127.0.0.1:8000/v1";

static pr_status no_memory(void)
{
    return pr_fail(PR_ERR_RESOURCE, "no memory for the address of a server");
}

static pr_status keep(const char *text, size_t size_bytes, char **kept)
{
    *kept = strndup(text, size_bytes);
    return *kept ? PR_OK : no_memory();
}

static bool is_web_address(const char *text)
{
    return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
}

static bool has_only_visible_ascii(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

// Adds "/v1" where the address has no path; a path given is the user's word.
static pr_status set_web_address(pr_client_endpoint *endpoint, const char *text)
{
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '/')
        length--;
    const char *host = strstr(text, "://") + 3;
    bool has_path = memchr(host, '/', length - (size_t)(host - text)) != NULL;
    if (asprintf(&endpoint->url, "%.*s%s", (int)length, text, has_path ? "" : "/v1") < 0) {
        endpoint->url = NULL;
        return no_memory();
    }
    return PR_OK;
}

static pr_status set_address(pr_client_endpoint *endpoint, const char *origin, const char *text)
{
    static const char scheme[] = "unix:";
    if (strncmp(text, scheme, sizeof scheme - 1) == 0) {
        const char *path = text + sizeof scheme - 1;
        PR_TRY(keep(path, strlen(path), &endpoint->unix_socket));
        return set_web_address(endpoint, "http://localhost");
    }
    bool good = is_web_address(text) && has_only_visible_ascii(text) && strlen(text) < 2048;
    const char *host = good ? strstr(text, "://") + 3 : "";
    if (!good || *host == '\0' || *host == '/' || strpbrk(text, "?#"))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s names no server: an address looks like http://host:8000, https://host/v1 or "
            "unix:/path/of/socket",
            origin);
    return set_web_address(endpoint, text);
}

static pr_status set_key(pr_client_endpoint *endpoint, const char *key)
{
    if (!has_only_visible_ascii(key) || *key == '\0')
        return pr_fail(PR_ERR_ARGUMENT, "--api-key: a key is one word of visible ASCII characters");
    return keep(key, strlen(key), &endpoint->key);
}

static pr_status read_key_file(pr_client_endpoint *endpoint, const char *path)
{
    char key[PR_KEY_BYTES];
    PR_TRY(pr_key_file_read(path, key));
    return keep(key, strlen(key), &endpoint->key);
}

static pr_status read_file(pr_client_endpoint *endpoint, const char *path)
{
    pr_endpoint file;
    PR_TRY(pr_endpoint_file_read(path, &file));
    endpoint->from_file = true;
    endpoint->draining = file.state == PR_ENDPOINT_DRAINING;
    if (file.api_key[0] && !endpoint->key)
        PR_TRY(keep(file.api_key, strlen(file.api_key), &endpoint->key));
    return set_address(endpoint, path, file.url);
}

static pr_status fill(const pr_options *options, pr_client_endpoint *endpoint)
{
    if (options->url && options->endpoint_file)
        return pr_fail(PR_ERR_ARGUMENT, "--url and --endpoint-file name two servers: give one");
    if (options->api_key.count + (options->api_key_file != NULL) > 1)
        return pr_fail(PR_ERR_ARGUMENT, "a client has one API key: give one --api-key or a file");
    if (options->api_key.count > 0)
        PR_TRY(set_key(endpoint, options->api_key.text[0]));
    if (options->api_key_file)
        PR_TRY(read_key_file(endpoint, options->api_key_file));
    if (options->endpoint_file)
        return read_file(endpoint, options->endpoint_file);
    return set_address(endpoint, "--url", options->url ? options->url : local_url);
}

pr_status pr_client_endpoint_read(const pr_options *options, pr_client_endpoint *endpoint)
{
    pr_client_endpoint made = {0};
    pr_status status = fill(options, &made);
    if (status != PR_OK) {
        pr_client_endpoint_clear(&made);
        return status;
    }
    *endpoint = made;
    return PR_OK;
}

void pr_client_endpoint_clear(pr_client_endpoint *endpoint)
{
    free(endpoint->url);
    free(endpoint->unix_socket);
    free(endpoint->key);
    *endpoint = (pr_client_endpoint){0};
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool pr_client_endpoint_same(const pr_client_endpoint *a, const pr_client_endpoint *b)
{
    return same_text(a->url, b->url) && same_text(a->unix_socket, b->unix_socket) &&
           same_text(a->key, b->key);
}
