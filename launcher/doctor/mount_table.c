// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/mount_table.h"

#include <stdio.h>
#include <string.h>

static pr_mount_kind kind_of(const char *type)
{
    static const struct {
        const char *type;
        pr_mount_kind kind;
    } known[] = {
        {"ext2", PR_MOUNT_LOCAL},
        {"ext3", PR_MOUNT_LOCAL},
        {"ext4", PR_MOUNT_LOCAL},
        {"xfs", PR_MOUNT_LOCAL},
        {"btrfs", PR_MOUNT_LOCAL},
        {"zfs", PR_MOUNT_LOCAL},
        {"f2fs", PR_MOUNT_LOCAL},
        {"squashfs", PR_MOUNT_LOCAL},
        {"erofs", PR_MOUNT_LOCAL},
        {"vfat", PR_MOUNT_LOCAL},
        {"tmpfs", PR_MOUNT_MEMORY},
        {"ramfs", PR_MOUNT_MEMORY},
        {"devtmpfs", PR_MOUNT_MEMORY},
        {"hugetlbfs", PR_MOUNT_MEMORY},
        {"overlay", PR_MOUNT_OVERLAY},
        {"fuse.fuse-overlayfs", PR_MOUNT_OVERLAY},
        {"nfs", PR_MOUNT_NETWORK},
        {"nfs4", PR_MOUNT_NETWORK},
        {"cifs", PR_MOUNT_NETWORK},
        {"smb3", PR_MOUNT_NETWORK},
        {"9p", PR_MOUNT_NETWORK},
        {"virtiofs", PR_MOUNT_NETWORK},
        {"afs", PR_MOUNT_NETWORK},
        {"fuse.sshfs", PR_MOUNT_NETWORK},
        {"fuse.cvmfs2", PR_MOUNT_NETWORK},
        {"lustre", PR_MOUNT_PARALLEL},
        {"gpfs", PR_MOUNT_PARALLEL},
        {"beegfs", PR_MOUNT_PARALLEL},
        {"beegfs_nodev", PR_MOUNT_PARALLEL},
        {"ceph", PR_MOUNT_PARALLEL},
        {"panfs", PR_MOUNT_PARALLEL},
        {"wekafs", PR_MOUNT_PARALLEL},
        {"pvfs2", PR_MOUNT_PARALLEL},
        {"fuse.glusterfs", PR_MOUNT_PARALLEL},
        {"fuse.daos", PR_MOUNT_PARALLEL},
        {"fuse.dfuse", PR_MOUNT_PARALLEL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(type, known[i].type) == 0)
            return known[i].kind;
    }
    return PR_MOUNT_UNKNOWN;
}

// The next word of a line into text, without its escapes ("\040" is a space). NULL: there is none, or it is
// too long.
static const char *take_word(const char *at, char *text, size_t size)
{
    size_t used = 0;
    while (*at == ' ')
        at++;
    if (*at == '\0' || *at == '\n')
        return NULL;
    while (*at != ' ' && *at != '\0' && *at != '\n') {
        unsigned code = 0;
        int length = 0;
        bool escaped = at[0] == '\\' && sscanf(at + 1, "%3o%n", &code, &length) == 1 && length == 3;
        if (used + 1 >= size)
            return NULL;
        text[used++] = escaped ? (char)code : *at;
        at += escaped ? 4 : 1;
    }
    text[used] = '\0';
    return at;
}

// Words: id, parent, device, root, point, options, any number of fields, "-", type, source, super options.
static bool read_line(const char *line, pr_mount *mount)
{
    char word[PR_MOUNT_TEXT_BYTES];
    for (int i = 0; i < 3 && line; i++)
        line = take_word(line, word, sizeof word);
    line = line ? take_word(line, mount->root, sizeof mount->root) : NULL;
    line = line ? take_word(line, mount->point, sizeof mount->point) : NULL;
    do
        line = line ? take_word(line, word, sizeof word) : NULL;
    while (line && strcmp(word, "-") != 0);
    line = line ? take_word(line, mount->type, sizeof mount->type) : NULL;
    line = line ? take_word(line, mount->source, sizeof mount->source) : NULL;
    if (!line)
        return false;
    if (!take_word(line, mount->options, sizeof mount->options))
        mount->options[0] = '\0';
    mount->kind = kind_of(mount->type);
    return true;
}

static const char *next_line(const char *at)
{
    at += strcspn(at, "\n");
    return *at ? at + 1 : at;
}

static bool is_below(const char *path, const char *point)
{
    size_t length = strlen(point);
    if (length == 1)
        return path[0] == '/';
    return strncmp(path, point, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

bool pr_mount_table_find(const char *mountinfo, const char *path, pr_mount *mount)
{
    size_t longest = 0;
    for (const char *line = mountinfo; *line; line = next_line(line)) {
        pr_mount read;
        if (!read_line(line, &read) || !is_below(path, read.point) || strlen(read.point) < longest)
            continue;
        longest = strlen(read.point);
        *mount = read;
    }
    return longest > 0;
}

static bool has_option(const char *options, const char *option)
{
    size_t length = strlen(option);
    for (const char *at = options; *at;) {
        size_t word = strcspn(at, ",");
        if (word == length && strncmp(at, option, length) == 0)
            return true;
        at += word + (at[word] == ',');
    }
    return false;
}

bool pr_mount_table_find_type(
    const char *mountinfo, const char *type, const char *option, pr_mount *mount)
{
    for (const char *line = mountinfo; *line; line = next_line(line)) {
        pr_mount read;
        if (!read_line(line, &read) || strcmp(read.type, type) != 0 ||
            (option && !has_option(read.options, option)))
            continue;
        *mount = read;
        return true;
    }
    return false;
}

const char *pr_mount_kind_text(pr_mount_kind kind)
{
    static const char *const text[] = {
        [PR_MOUNT_LOCAL] = "local",
        [PR_MOUNT_MEMORY] = "in memory",
        [PR_MOUNT_OVERLAY] = "of this container",
        [PR_MOUNT_NETWORK] = "from one server",
        [PR_MOUNT_PARALLEL] = "parallel",
        [PR_MOUNT_UNKNOWN] = "of a kind not known here",
    };
    return text[kind];
}
