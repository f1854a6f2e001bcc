#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 60
# processors: 1
# The floors rule holds, and the check sees a breach of each kind.
set -eu
cd "$POLYREME_SOURCE"
bash scripts/check_includes

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/scripts" "$copy"/{runtime,kernels,comm,scheduler,slurm,k8s-adapter,launcher}
cp scripts/check_includes "$copy/scripts"
refused() {  # FILE LINE: the check must refuse this line in this file
    echo "$2" > "$copy/$1"
    if bash "$copy/scripts/check_includes" > "$copy/out"; then
        echo "not refused: $2 in $1"
        exit 1
    fi
    grep -q "^$1:1: " "$copy/out"
    rm "$copy/$1"
}
refused runtime/a.c '#include "comm/world.h"'
refused kernels/a.c '#include "scheduler/scheduler.h"'
refused comm/a.h '#include "launcher/options.h"'
refused launcher/a.c '#include <mpi.h>'
refused scheduler/a.c '# include <ucp/api/ucp.h>'
refused comm/a.c '#include <hwloc.h>'
refused k8s-adapter/a.c '#include "scheduler/scheduler.h"'
refused launcher/a.c '#include <zmq.h>'
refused scheduler/a.c '#include <msgpack.h>'
refused launcher/a.c '#include <slurm/slurm.h>'
refused slurm/a.c '#include "comm/world.h"'
refused runtime/a.c '#include <sys/socket.h>'
refused scheduler/a.c '#include "runtime/base/clock.h"'
refused kernels/a.c '#include "cpu_device.h"'
echo '#include "runtime/device.h"' > "$copy/kernels/a.c"
bash "$copy/scripts/check_includes"
