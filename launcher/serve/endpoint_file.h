// SPDX-License-Identifier: BSD-3-Clause
// The file that says where a serving job is, for its user's clients: written when the endpoint is ready, marked
// while it drains, removed at the end. docs/endpoint-file.md.
//
//   {"url": "http://10.0.0.7:40123/v1", "host": "10.0.0.7", "port": 40123, "model": "demo",
//    "api_key_file": "/home/ada/endpoint.json.key", "job_id": "4711", "pid": 812, "state": "ready", ...}
//
// A client goes where the file says and gives it the key, so the reader trusts nothing in it: schemes, characters
// and modes are checked, and the key goes nowhere that the file's url does not name.
// Threads: any.
#ifndef PR_LAUNCHER_SERVE_ENDPOINT_FILE_H
#define PR_LAUNCHER_SERVE_ENDPOINT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "launcher/http/key_file.h"

enum { PR_ENDPOINT_TEXT_BYTES = 512, PR_ENDPOINT_PATH_BYTES = 4096 };

typedef enum pr_endpoint_state { PR_ENDPOINT_READY, PR_ENDPOINT_DRAINING } pr_endpoint_state;

typedef struct pr_endpoint {
    char url
        [PR_ENDPOINT_TEXT_BYTES];  // http://HOST:PORT/v1, https://HOST:PORT/v1 or unix:/ABSOLUTE/PATH
    char host[PR_ENDPOINT_TEXT_BYTES];  // "" for a unix socket; IPv6 without brackets
    int32_t port;                       // 0 for a unix socket
    char model[PR_ENDPOINT_TEXT_BYTES];
    char api_key_file[PR_ENDPOINT_PATH_BYTES];  // "": no key is needed
    char job_id[PR_ENDPOINT_TEXT_BYTES];        // "": none
    int64_t pid;
    pr_endpoint_state state;
    int64_t end_unix_s;  // of the job; 0: no end is known
    char version[PR_ENDPOINT_TEXT_BYTES];
    char api_key[PR_KEY_BYTES];  // what the key file holds; never in the endpoint file
} pr_endpoint;

// Makes a key in PATH.key and fills api_key and api_key_file (absolute). Before the first write.
pr_status pr_endpoint_file_make_key(const char *path, pr_endpoint *endpoint) PR_MUST_CHECK;

// Atomic; also to change the state.
pr_status pr_endpoint_file_write(const char *path, const pr_endpoint *endpoint) PR_MUST_CHECK;

// Whether the file is there and this endpoint's; not after a successor has written its own.
bool pr_endpoint_file_names(const char *path, const pr_endpoint *endpoint);

// Takes away the file, and the key that make_key made, unless another job has written there since.
void pr_endpoint_file_remove(const char *path, const pr_endpoint *endpoint);

// Reads, checks and, where there is one, reads the key. Errors, each with a line that says what to do:
// PR_ERR_NOT_FOUND no file, PR_ERR_FORMAT what it says, PR_ERR_ARGUMENT who may write it or read its key.
pr_status pr_endpoint_file_read(const char *path, pr_endpoint *endpoint) PR_MUST_CHECK;

#endif
