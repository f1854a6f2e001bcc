// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_choice.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_library.h"
#include "runtime/base/log.h"

enum { NAME_BYTES = 16, LIST_BYTES = 512, MOST_INDEX_DIGITS = 4 };

static const char *const backends[] = {"cuda", "hip", "emulated", "emulated64"};
enum { BACKENDS = sizeof backends / sizeof *backends, REAL_BACKENDS = 2 };

// "cuda:1" in parts.
typedef struct device_words {
    char backend[NAME_BYTES];  // also "auto" and "cpu"
    const char *which;         // after the colon, or NULL
} device_words;

static bool is_number(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
    }
    return length > 0 && length <= MOST_INDEX_DIGITS;
}

static bool is_uuid(const char *text)
{
    return (strncmp(text, "GPU-", 4) == 0 || strncmp(text, "MIG-", 4) == 0) && text[4] != '\0';
}

static pr_status read_words(const char *name, device_words *words)
{
    const char *colon = strchr(name, ':');
    size_t length = colon ? (size_t)(colon - name) : strlen(name);
    bool good = length > 0 && length < NAME_BYTES, is_gpu = false;
    *words = (device_words){.which = colon ? colon + 1 : NULL};
    if (good)
        memcpy(words->backend, name, length);
    for (int i = 0; i < BACKENDS; i++)
        is_gpu = is_gpu || strcmp(words->backend, backends[i]) == 0;
    bool alone = strcmp(words->backend, "auto") == 0 || strcmp(words->backend, "cpu") == 0;
    good =
        good && (colon ? is_gpu && (is_number(colon + 1) || is_uuid(colon + 1)) : is_gpu || alone);
    if (!good)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--device %s: use auto, cpu, cuda or hip; cuda:1 or cuda:GPU-1a2b names one of several",
            name);
    return PR_OK;
}

// "cuda:0 NVIDIA H200 (GPU-...), cuda:1 ..."
static void list_devices(const pr_gpu_backend *backend, int32_t devices, char text[LIST_BYTES])
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < devices && used < LIST_BYTES; i++) {
        pr_gpu_facts facts;
        if (!backend->facts(i, &facts))
            continue;
        used += (size_t)snprintf(
            text + used, LIST_BYTES - used, "%s%s:%d %s (%s)", used > 0 ? ", " : "", backend->name,
            (int)i, facts.name, facts.uuid);
    }
}

static bool has_uuid(const pr_gpu_backend *backend, int32_t index, const char *prefix)
{
    pr_gpu_facts facts;
    return backend->facts(index, &facts) && strncmp(facts.uuid, prefix, strlen(prefix)) == 0;
}

// Which of the back end's devices the words mean; -1: none.
static int32_t find_named(const pr_gpu_backend *backend, int32_t devices, const char *which)
{
    if (is_number(which)) {
        int32_t index = (int32_t)strtol(which, NULL, 10);
        return index < devices ? index : -1;
    }
    for (int32_t i = 0; i < devices; i++) {
        if (has_uuid(backend, i, which))
            return i;
    }
    return -1;
}

static pr_status choose_device(const device_words *words, int32_t number, pr_gpu_choice *choice)
{
    const pr_gpu_backend *backend = choice->backend;
    int32_t devices = backend->devices();
    char list[LIST_BYTES];
    if (devices < 1) {
        const char *why = backend->error();
        return pr_fail(
            PR_ERR_NOT_FOUND, "--device %s: no device here%s%s: use --device cpu, or ask for a GPU",
            words->backend, why[0] ? ": " : "", why);
    }
    if (words->which) {
        choice->index = find_named(backend, devices, words->which);
        choice->devices = 1;
        if (choice->index < 0) {
            list_devices(backend, devices, list);
            return pr_fail(
                PR_ERR_ARGUMENT, "--device %s:%s: there are %s", words->backend, words->which,
                list);
        }
    } else {
        choice->index = number % devices;
        choice->devices = devices;
    }
    if (!backend->facts(choice->index, &choice->facts))
        return pr_fail(
            PR_ERR_NOT_FOUND, "--device %s:%d does not answer: %s", words->backend,
            (int)choice->index, backend->error());
    return PR_OK;
}

// The first back end with a device; none: the CPU.
static void look_for_one(pr_gpu_choice *choice, device_words *words)
{
    for (int i = 0; i < REAL_BACKENDS; i++) {
        const pr_gpu_backend *backend;
        pr_error_capture_begin();
        bool there = pr_gpu_library_open(backends[i], &backend) == PR_OK && backend->devices() > 0;
        pr_error_capture_end();
        if (!there)
            continue;
        choice->backend = backend;
        snprintf(words->backend, sizeof words->backend, "%s", backends[i]);
        return;
    }
}

pr_status pr_gpu_choice_make(const char *name, int32_t number, pr_gpu_choice *choice)
{
    device_words words;
    *choice = (pr_gpu_choice){0};
    PR_TRY(read_words(name, &words));
    if (strcmp(words.backend, "auto") == 0)
        look_for_one(choice, &words);
    else if (strcmp(words.backend, "cpu") != 0)
        PR_TRY(pr_gpu_library_open(words.backend, &choice->backend));
    return choice->backend ? choose_device(&words, number, choice) : PR_OK;
}

void pr_gpu_choice_list(
    const char *backend,
    void (*found)(void *context, const char *backend, int32_t index, const pr_gpu_facts *facts),
    void *context,
    char why[256])
{
    const pr_gpu_backend *opened;
    pr_gpu_facts facts;
    why[0] = '\0';
    pr_error_capture_begin();
    pr_status status = pr_gpu_library_open(backend, &opened);
    pr_error_capture_end();
    if (status != PR_OK) {
        snprintf(why, 256, "%s", pr_error_text());
        return;
    }
    int32_t devices = opened->devices();
    if (devices == 0)
        snprintf(why, 256, "%s", opened->error());
    for (int32_t i = 0; i < devices; i++) {
        if (opened->use(i) && opened->facts(i, &facts))
            found(context, backend, i, &facts);
    }
}
