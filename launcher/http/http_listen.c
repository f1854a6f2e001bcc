// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { BACKLOG = 4096 };

// ---- TCP ----

// "[::1]" is "::1"; no host is loopback.
static void plain_host(const char *host, char *plain, size_t size_bytes)
{
    size_t length = host ? strlen(host) : 0;
    if (length > 2 && host[0] == '[' && host[length - 1] == ']')
        snprintf(plain, size_bytes, "%.*s", (int)length - 2, host + 1);
    else
        snprintf(plain, size_bytes, "%s", length ? host : "127.0.0.1");
}

static pr_status resolve(const char *host, int32_t port, struct addrinfo **found)
{
    char service[16];
    snprintf(service, sizeof service, "%d", (int)port);
    struct addrinfo hints = {
        .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int code = getaddrinfo(host, service, &hints, found);
    if (code != 0) {
        hints.ai_family = AF_INET6;
        code = getaddrinfo(host, service, &hints, found);
    }
    if (code == 0)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT, "--host %s cannot be resolved: %s: give an address of this machine", host,
        gai_strerror(code));
}

static pr_status tell_bind(const char *host, int32_t port, int reason)
{
    if (reason == EADDRINUSE)
        return pr_fail(
            PR_ERR_RESOURCE,
            "port %d on %s is in use: choose another with --port (0: any free one)", (int)port,
            host);
    if (reason == EACCES)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "port %d is not allowed to this user: choose one above 1023 with --port", (int)port);
    if (reason == EADDRNOTAVAIL)
        return pr_fail(
            PR_ERR_ARGUMENT, "--host %s is not an address of this machine: choose another", host);
    return pr_fail(
        PR_ERR_IO, "cannot listen on %s, port %d: %s", host, (int)port, strerror(reason));
}

static int32_t port_of(int descriptor)
{
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;
    if (getsockname(descriptor, (struct sockaddr *)&address, &bytes) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static pr_status open_tcp(const char *host_text, int32_t port, pr_http_listen *listening)
{
    char host[256];
    const int on = 1, off = 0;
    struct addrinfo *found;
    plain_host(host_text, host, sizeof host);
    if (port < 0 || port > 65535)
        return pr_fail(PR_ERR_ARGUMENT, "--port %d: must be 0..65535", (int)port);
    PR_TRY(resolve(host, port, &found));
    int descriptor = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor >= 0) {
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (found->ai_family == AF_INET6)
            setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (descriptor < 0 || bind(descriptor, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(descriptor, BACKLOG) != 0) {
        int reason = errno;
        freeaddrinfo(found);
        if (descriptor >= 0)
            close(descriptor);
        return tell_bind(host, port, reason);
    }
    freeaddrinfo(found);
    listening->descriptor = descriptor;
    listening->port = port_of(descriptor);
    return PR_OK;
}

// ---- Unix socket ----

// A socket that refuses connections was left by a server that is gone.
static pr_status remove_stale(const char *path, const struct sockaddr_un *address)
{
    struct stat file;
    if (lstat(path, &file) != 0) {
        if (errno == ENOENT)
            return PR_OK;
        return pr_fail(PR_ERR_IO, "cannot look at --uds %s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(file.st_mode))
        return pr_fail(
            PR_ERR_ARGUMENT, "--uds %s exists and is not a socket: choose another path", path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return pr_fail(PR_ERR_IO, "cannot make a socket: %s", strerror(errno));
    int code = connect(probe, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(probe);
    if (code != ECONNREFUSED)
        return pr_fail(
            PR_ERR_RESOURCE, "--uds %s is in use by another server: choose another path", path);
    if (unlink(path) != 0)
        return pr_fail(PR_ERR_IO, "cannot replace --uds %s: %s", path, strerror(errno));
    return PR_OK;
}

static pr_status open_uds(const char *path, pr_http_listen *listening)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat file;
    if (strlen(path) >= sizeof address.sun_path || !*path)
        return pr_fail(
            PR_ERR_ARGUMENT, "--uds %s: a socket path has 1 to %zu bytes, this one has %zu", path,
            sizeof address.sun_path - 1, strlen(path));
    strcpy(address.sun_path, path);
    PR_TRY(remove_stale(path, &address));
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // Between bind and listen nobody can connect, so the mode is right for everyone.
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, 0600) != 0 || listen(descriptor, BACKLOG) != 0 || lstat(path, &file) != 0) {
        int reason = errno;
        if (descriptor >= 0)
            close(descriptor);
        return pr_fail(PR_ERR_IO, "cannot listen on --uds %s: %s", path, strerror(reason));
    }
    listening->path = strdup(path);
    if (!listening->path) {
        close(descriptor);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a path");
    }
    listening->descriptor = descriptor;
    listening->device = file.st_dev;
    listening->inode = file.st_ino;
    return PR_OK;
}

pr_status
pr_http_listen_open(const char *host, int32_t port, const char *uds, pr_http_listen *listening)
{
    *listening = (pr_http_listen){.descriptor = -1};
    return uds ? open_uds(uds, listening) : open_tcp(host, port, listening);
}

void pr_http_listen_close(pr_http_listen *listening)
{
    struct stat file;
    if (listening->descriptor >= 0)
        close(listening->descriptor);
    listening->descriptor = -1;
    if (listening->path && lstat(listening->path, &file) == 0 && file.st_dev == listening->device &&
        file.st_ino == listening->inode)
        unlink(listening->path);
    free(listening->path);
    listening->path = NULL;
}
