// SPDX-License-Identifier: BSD-3-Clause
// Says where this server is: the endpoint file for its user's clients, llm-d's endpoints.yaml beside it. Both appear when
// it can be used, change when it drains, and go when it ends.
// Under a batch system the endpoint file has a default name, and a key is made into it unless the user brings one or
// switches that off: on a shared node every user can reach 127.0.0.1.
// Threads: ready, drain and set_end may meet; all else one at a time.
#ifndef PR_LAUNCHER_SERVE_ADVERTISER_H
#define PR_LAUNCHER_SERVE_ADVERTISER_H

#include <stdbool.h>
#include <stdint.h>

#include "launcher/http/api_key.h"
#include "launcher/options.h"

typedef struct pr_advertiser pr_advertiser;

// Collects the keys that open this server: flags, file, environment, or the one made. keys is empty: anybody may ask.
pr_status pr_advertiser_create(
    const pr_options *options, pr_api_keys *keys, pr_advertiser **advertiser) PR_MUST_CHECK;
void pr_advertiser_destroy(pr_advertiser *advertiser);

// port: the one that was taken; 0 for a Unix socket.
pr_status
pr_advertiser_ready(pr_advertiser *advertiser, const char *model, int32_t port) PR_MUST_CHECK;
void pr_advertiser_drain(pr_advertiser *advertiser);
// The job's end (0: none is known), and whether its time runs out: that is shown like a drain, while short
// requests are still taken, and can be taken back.
void pr_advertiser_set_end(pr_advertiser *advertiser, int64_t end_unix_s, bool runs_out);
void pr_advertiser_end(pr_advertiser *advertiser);

// The literal IPv4 address at which others reach us; 127.0.0.1 if nobody but this machine does.
const char *pr_advertiser_address(const pr_advertiser *advertiser);
const char *pr_advertiser_job(void);  // the batch system's name of this job, or NULL

#endif
