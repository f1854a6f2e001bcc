// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/advertiser.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "k8s-adapter/endpoints_file.h"
#include "launcher/serve/endpoint_file.h"
#include "runtime/base/log.h"

struct pr_advertiser {
    const pr_options *options;
    char file[PR_ENDPOINT_PATH_BYTES];       // "": none is written
    char endpoints[PR_ENDPOINT_PATH_BYTES];  // "": none
    char name[64];                           // in endpoints.yaml; "": we are not in it
    char address[INET_ADDRSTRLEN];
    pr_endpoint endpoint;
    bool made_key;
    pthread_mutex_t lock;  // a drain may be asked for while the files are first written
    bool ready;            // the endpoint file is there
    bool draining;
};

const char *pr_advertiser_job(void)
{
    static const char *const names[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *job = getenv(names[i]);
        if (job && job[0])
            return job;
    }
    return NULL;
}

// ---- Addresses ----

static bool is_loopback(const struct in_addr *address)
{
    return (ntohl(address->s_addr) >> 24) == 127;
}

// What other machines call us: what our name says, else the first interface that is up.
static void find_own_address(char text[INET_ADDRSTRLEN])
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    struct ifaddrs *interfaces = NULL;
    char name[256] = "";
    const struct in_addr *chosen = NULL;
    gethostname(name, sizeof name - 1);
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        found = NULL;
    for (const struct addrinfo *at = found; at && !chosen; at = at->ai_next) {
        const struct in_addr *address =
            &((const struct sockaddr_in *)(void *)at->ai_addr)->sin_addr;
        chosen = is_loopback(address) ? NULL : address;
    }
    if (!chosen && getifaddrs(&interfaces) != 0)
        interfaces = NULL;
    for (const struct ifaddrs *at = interfaces; at && !chosen; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !(at->ifa_flags & IFF_UP))
            continue;
        const struct in_addr *address =
            &((const struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr;
        chosen = is_loopback(address) ? NULL : address;
    }
    if (!chosen || !inet_ntop(AF_INET, chosen, text, INET_ADDRSTRLEN))
        snprintf(text, INET_ADDRSTRLEN, "127.0.0.1");
    if (found)
        freeaddrinfo(found);
    if (interfaces)
        freeifaddrs(interfaces);
}

static bool is_everywhere(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || strcmp(host, "*") == 0;
}

static void choose_address(pr_advertiser *advertiser)
{
    struct in_addr literal;
    const char *host = advertiser->options->host;
    if (inet_pton(AF_INET, host, &literal) == 1 && !is_everywhere(host))
        snprintf(advertiser->address, sizeof advertiser->address, "%s", host);
    else if (is_everywhere(host))
        find_own_address(advertiser->address);
    else
        snprintf(advertiser->address, sizeof advertiser->address, "127.0.0.1");
}

// ---- Keys ----

static pr_status add_given_keys(const pr_options *options, pr_api_keys *keys)
{
    const char *other = getenv("VLLM_API_KEY");
    for (int32_t i = 0; i < options->api_key.count; i++)
        PR_TRY(pr_api_keys_add(keys, options->api_key.text[i], "--api-key"));
    if (options->api_key_file)
        PR_TRY(pr_api_keys_add_file(keys, options->api_key_file));
    if (pr_api_keys_count(keys) == 0 && other && other[0])
        PR_TRY(pr_api_keys_add(keys, other, "VLLM_API_KEY"));
    return PR_OK;
}

// The clients that follow the endpoint file are told where the key is, if it is in a file.
static pr_status settle_keys(pr_advertiser *advertiser, pr_api_keys *keys)
{
    const pr_options *options = advertiser->options;
    pr_endpoint *endpoint = &advertiser->endpoint;
    PR_TRY(add_given_keys(options, keys));
    if (options->api_key_file && !realpath(options->api_key_file, endpoint->api_key_file))
        return pr_fail(PR_ERR_IO, "the key file %s has no path", options->api_key_file);
    if (pr_api_keys_count(keys) > 0 || !options->generate_api_key || !pr_advertiser_job() ||
        !advertiser->file[0])
        return PR_OK;
    PR_TRY(pr_endpoint_file_make_key(advertiser->file, endpoint));
    advertiser->made_key = true;
    return pr_api_keys_add(keys, endpoint->api_key, "the key made");
}

// ---- Files ----

static void choose_files(pr_advertiser *advertiser)
{
    const pr_options *options = advertiser->options;
    const char *job = pr_advertiser_job();
    size_t room = sizeof advertiser->file;
    if (options->endpoint_file)
        snprintf(advertiser->file, room, "%s", options->endpoint_file);
    else if (job)
        snprintf(advertiser->file, room, "polyreme-%.64s.json", job);
    const char *slash = strrchr(advertiser->file, '/');
    if (options->endpoints_yaml)
        snprintf(advertiser->endpoints, room, "%s", options->endpoints_yaml);
    else if (advertiser->file[0])
        snprintf(
            advertiser->endpoints, room, "%.*sendpoints.yaml",
            slash ? (int)(slash - advertiser->file + 1) : 0, advertiser->file);
}

pr_status
pr_advertiser_create(const pr_options *options, pr_api_keys *keys, pr_advertiser **advertiser)
{
    pr_advertiser *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory to serve");
    made->options = options;
    pthread_mutex_init(&made->lock, NULL);
    choose_files(made);
    choose_address(made);
    pr_status status = settle_keys(made, keys);
    if (status != PR_OK) {
        pr_advertiser_destroy(made);
        return status;
    }
    *advertiser = made;
    return PR_OK;
}

void pr_advertiser_destroy(pr_advertiser *advertiser)
{
    if (!advertiser)
        return;
    pthread_mutex_destroy(&advertiser->lock);
    free(advertiser);
}

const char *pr_advertiser_address(const pr_advertiser *advertiser) { return advertiser->address; }

static pr_status describe(pr_advertiser *advertiser, const char *model, int32_t port)
{
    const pr_options *options = advertiser->options;
    pr_endpoint *endpoint = &advertiser->endpoint;
    char socket[PR_ENDPOINT_PATH_BYTES];
    const char *job = pr_advertiser_job();
    const char *host = is_everywhere(options->host) ? advertiser->address : options->host;
    endpoint->port = port;
    endpoint->pid = getpid();
    snprintf(endpoint->model, sizeof endpoint->model, "%s", model);
    snprintf(endpoint->job_id, sizeof endpoint->job_id, "%s", job ? job : "");
    snprintf(endpoint->version, sizeof endpoint->version, "%s", PR_VERSION);
    if (options->uds) {
        if (!realpath(options->uds, socket))
            return pr_fail(PR_ERR_IO, "the socket %s is not there", options->uds);
        snprintf(endpoint->url, sizeof endpoint->url, "unix:%.500s", socket);
        return PR_OK;
    }
    snprintf(endpoint->host, sizeof endpoint->host, "%s", host);
    snprintf(
        endpoint->url, sizeof endpoint->url,
        strchr(host, ':') ? "%s://[%.400s]:%d/v1" : "%s://%.400s:%d/v1",
        options->ssl_certfile ? "https" : "http", host, (int)port);
    return PR_OK;
}

// A job that has no address of the kind llm-d takes is only not in its file.
static pr_status write_endpoints(pr_advertiser *advertiser)
{
    char *name = advertiser->name;
    size_t room = sizeof advertiser->name;
    const char *job = pr_advertiser_job();
    if (!advertiser->endpoints[0] || advertiser->options->uds)
        return PR_OK;
    if (job)
        snprintf(name, room, "polyreme-%.40s", job);
    else
        snprintf(name, room, "polyreme-%lld", (long long)advertiser->endpoint.pid);
    pr_endpoints_entry entry = {
        .name = name,
        .address = advertiser->address,
        .port = advertiser->endpoint.port,
    };
    return pr_endpoints_file_write(advertiser->endpoints, &entry, 1);
}

static pr_status write_files(pr_advertiser *advertiser, const char *model, int32_t port)
{
    PR_TRY(describe(advertiser, model, port));
    pr_log(
        PR_LOG_INFO, "serving %s at %s%s%s", model, advertiser->endpoint.url,
        advertiser->endpoint.api_key_file[0] ? "; key: " : "", advertiser->endpoint.api_key_file);
    advertiser->endpoint.state = advertiser->draining ? PR_ENDPOINT_DRAINING : PR_ENDPOINT_READY;
    if (advertiser->file[0])
        PR_TRY(pr_endpoint_file_write(advertiser->file, &advertiser->endpoint));
    advertiser->ready = true;
    return advertiser->draining ? PR_OK : write_endpoints(advertiser);
}

pr_status pr_advertiser_ready(pr_advertiser *advertiser, const char *model, int32_t port)
{
    pthread_mutex_lock(&advertiser->lock);
    pr_status status = write_files(advertiser, model, port);
    pthread_mutex_unlock(&advertiser->lock);
    return status;
}

// A successor may have written its own meanwhile.
static bool still_names_us(const pr_advertiser *advertiser)
{
    char text[4096] = "", quoted[80];
    FILE *file = advertiser->name[0] ? fopen(advertiser->endpoints, "r") : NULL;
    if (!file)
        return false;
    size_t size_bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size_bytes] = '\0';
    snprintf(quoted, sizeof quoted, "\"%s\"", advertiser->name);
    return strstr(text, quoted) != NULL;
}

static void take_back(pr_advertiser *advertiser)
{
    bool ours =
        advertiser->file[0] && pr_endpoint_file_names(advertiser->file, &advertiser->endpoint);
    advertiser->endpoint.state = PR_ENDPOINT_DRAINING;
    if (ours && pr_endpoint_file_write(advertiser->file, &advertiser->endpoint) != PR_OK)
        pr_log(PR_LOG_WARN, "%s still says that we are ready", advertiser->file);
    if (still_names_us(advertiser) &&
        pr_endpoints_file_write(advertiser->endpoints, NULL, 0) != PR_OK)
        pr_log(PR_LOG_WARN, "%s still names us", advertiser->endpoints);
}

void pr_advertiser_drain(pr_advertiser *advertiser)
{
    pthread_mutex_lock(&advertiser->lock);
    advertiser->draining = true;
    if (advertiser->ready)
        take_back(advertiser);
    pthread_mutex_unlock(&advertiser->lock);
}

void pr_advertiser_set_end(pr_advertiser *advertiser, int64_t end_unix_s, bool runs_out)
{
    pr_endpoint *endpoint = &advertiser->endpoint;
    pthread_mutex_lock(&advertiser->lock);
    endpoint->end_unix_s = end_unix_s;
    bool there = advertiser->ready && !advertiser->draining;
    bool back = there && !runs_out && endpoint->state == PR_ENDPOINT_DRAINING;
    if (there && runs_out) {
        take_back(advertiser);
    } else if (there) {
        endpoint->state = PR_ENDPOINT_READY;
        if (advertiser->file[0] && pr_endpoint_file_write(advertiser->file, endpoint) != PR_OK)
            pr_log(PR_LOG_WARN, "%s does not say when the job ends", advertiser->file);
        if (back && write_endpoints(advertiser) != PR_OK)
            pr_log(PR_LOG_WARN, "%s does not name us", advertiser->endpoints);
    }
    pthread_mutex_unlock(&advertiser->lock);
}

void pr_advertiser_end(pr_advertiser *advertiser)
{
    if (!advertiser)
        return;
    if (advertiser->ready && advertiser->endpoint.state == PR_ENDPOINT_READY)
        pr_advertiser_drain(advertiser);
    if (advertiser->ready && advertiser->file[0])
        pr_endpoint_file_remove(advertiser->file, &advertiser->endpoint);
    else if (advertiser->made_key)
        unlink(advertiser->endpoint.api_key_file);
    advertiser->ready = false;
}
