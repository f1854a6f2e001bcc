// SPDX-License-Identifier: BSD-3-Clause
// Which file system a path is on, from the text of /proc/self/mountinfo, and what kind that is.
//
//   36 35 98:0 /root /mnt/a\040b rw,noatime shared:1 - ext3 /dev/root rw     a line: mount point, type, source
//
// Pure. Source: proc(5).
#ifndef PR_LAUNCHER_DOCTOR_MOUNT_TABLE_H
#define PR_LAUNCHER_DOCTOR_MOUNT_TABLE_H

#include <stdbool.h>

typedef enum pr_mount_kind {
    PR_MOUNT_LOCAL,     // ext4, xfs, ...
    PR_MOUNT_MEMORY,    // tmpfs, ramfs
    PR_MOUNT_OVERLAY,   // of a container
    PR_MOUNT_NETWORK,   // one server: NFS, SMB, 9p
    PR_MOUNT_PARALLEL,  // many: Lustre, GPFS, BeeGFS
    PR_MOUNT_UNKNOWN,
} pr_mount_kind;

enum { PR_MOUNT_TEXT_BYTES = 512 };

typedef struct pr_mount {
    char point[PR_MOUNT_TEXT_BYTES];
    char root[PR_MOUNT_TEXT_BYTES];  // what of the file system is mounted there
    char type[64];
    char source[PR_MOUNT_TEXT_BYTES];
    char options[PR_MOUNT_TEXT_BYTES];  // of the file system
    pr_mount_kind kind;
} pr_mount;

// The mount that an absolute path without links is on: of the longest points the last, which hides the others.
bool pr_mount_table_find(const char *mountinfo, const char *path, pr_mount *mount);

// The first one of a type, with the word among its options (NULL: any).
bool pr_mount_table_find_type(
    const char *mountinfo, const char *type, const char *option, pr_mount *mount);

const char *pr_mount_kind_text(pr_mount_kind kind);  // "one server for all nodes"

#endif
