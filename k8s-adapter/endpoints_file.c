// SPDX-License-Identifier: BSD-3-Clause
#include "k8s-adapter/endpoints_file.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

enum { FILE_BYTES_MOST = 1 << 20, NAME_BYTES_MOST = 253, ENTRY_BYTES = 1024 };

static bool is_name(const char *name)
{
    static const char ends[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t length = strlen(name);
    return length > 0 && length <= NAME_BYTES_MOST &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == length &&
           strchr(ends, name[0]) && strchr(ends, name[length - 1]);
}

static pr_status check_entry(const char *path, const pr_endpoints_entry *entry)
{
    static const char *const roles[] = {
        "prefill-decode", "prefill", "decode", "encode", "encode-prefill", "encode-prefill-decode"};
    struct in_addr address;
    bool known = !entry->role;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0] && !known; i++)
        known = strcmp(entry->role, roles[i]) == 0;
    if (!is_name(entry->name) || (entry->space && !is_name(entry->space)))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s: the endpoint name '%s' must be lower-case letters, digits, dots and dashes", path,
            entry->name);
    if (inet_pton(AF_INET, entry->address, &address) != 1 || address.s_addr == INADDR_ANY)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s: llm-d takes a literal IPv4 address at which others reach this server, not '%s': "
            "give --host one",
            path, entry->address);
    if (entry->port < 1 || entry->port > 65535)
        return pr_fail(PR_ERR_ARGUMENT, "%s: port %d is none", path, (int)entry->port);
    return known ? PR_OK
                 : pr_fail(PR_ERR_ARGUMENT, "%s: llm-d knows no role '%s'", path, entry->role);
}

// What is checked needs no escapes between quotes.
static void append_entry(pr_byte_buffer *text, const pr_endpoints_entry *entry)
{
    char item[ENTRY_BYTES];
    int length = snprintf(
        item, sizeof item,
        "  - name: \"%s\"\n    namespace: \"%s\"\n    address: \"%s\"\n    port: \"%d\"\n"
        "    labels:\n      llm-d.ai/role: \"%s\"\n      llm-d.ai/engine-type: \"vllm\"\n",
        entry->name, entry->space ? entry->space : "default", entry->address, (int)entry->port,
        entry->role ? entry->role : "prefill-decode");
    pr_byte_buffer_append(text, item, (size_t)length);
}

static pr_status
compose(const char *path, const pr_endpoints_entry *entry, int32_t entries, pr_byte_buffer *text)
{
    const char *head = entries > 0 ? "endpoints:\n" : "endpoints: []\n";
    pr_byte_buffer_append(text, head, strlen(head));
    for (int32_t i = 0; i < entries; i++) {
        PR_TRY(check_entry(path, &entry[i]));
        for (int32_t before = 0; before < i; before++) {
            if (strcmp(entry[before].name, entry[i].name) == 0)
                return pr_fail(
                    PR_ERR_ARGUMENT, "%s: two endpoints have the name '%s'", path, entry[i].name);
        }
        append_entry(text, &entry[i]);
        if (text->size_bytes > FILE_BYTES_MOST)
            return pr_fail(
                PR_ERR_ARGUMENT, "%s: llm-d reads at most 1 MiB; list fewer than %d endpoints",
                path, (int)i + 1);
    }
    return pr_byte_buffer_check(text);
}

pr_status
pr_endpoints_file_write(const char *path, const pr_endpoints_entry *entry, int32_t entries)
{
    pr_byte_buffer text = {0};
    pr_status status = compose(path, entry, entries, &text);
    if (status == PR_OK)
        status = pr_atomic_file_write(path, 0644, text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
    return status;
}
