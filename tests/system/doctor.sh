#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What doctor finds in environments that are made for it, that it never hangs, and what it says as JSON.
# timeout: 120
# processors: 1
# shellcheck disable=SC2317  # functions are called through finds
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

check() { # name, condition's status
    if [ "$2" -eq 0 ]; then
        echo "ok     $1"
    else
        echo "FAILED $1"
        failures=$((failures + 1))
        cat "$work/said"
    fi
}

# finds NAME CODE TEXT COMMAND...: the command ends with the code, a line (or its advice) matches.
finds() {
    local name=$1 code=$2 text=$3 is
    shift 3
    "$@" < /dev/null > "$work/said" 2>&1
    is=$?
    grep -qE -- "$text" "$work/said" && [ "$is" -eq "$code" ]
    check "$name" $?
}

# limited FLAG VALUE: doctor under a limit.
limited() { (ulimit -S "$1" "$2" && "$polyreme" doctor); }
# in_folder FOLDER: doctor there.
in_folder() { (cd "$1" && "$polyreme" doctor); }
# A program in $work/bin that comes before others of its name.
fake() { # NAME, text of the script
    mkdir -p "$work/bin"
    printf '#!/bin/sh\n%s\n' "$2" > "$work/bin/$1"
    chmod +x "$work/bin/$1"
}
with_fakes() { PATH=$work/bin:$PATH "$polyreme" doctor; }
in_job() { SLURM_JOB_ID=77 with_fakes; }

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
unset SLURM_JOB_ID SLURM_MPI_TYPE SLURM_TOPOLOGY_ADDR SLURM_PMIX_FENCE OMPI_MCA_pml
finds "this machine has no problem" 0 '^ok +version +polyreme ' "$polyreme" doctor
! grep -q '^problem' "$work/said"
check "and none is told" $?
"$polyreme" doctor --json > "$work/said"
jq -e '(.findings | length > 12) and ([.findings[] | .level] | all(. == "ok" or . == "note" or . == "problem"))
    and ([.findings[] | has("subject") and has("text") and has("advice")] | all)' "$work/said" > /dev/null
check "the same as JSON" $?

finds "few open files are noted" 0 '^note +open files +at most 300$' limited -n 300
finds "a limited address space is noted" 0 '^note +address space +address space is limited to ' limited -v 80000000
finds "core dumps are told of" 0 '^ok +core dumps +at most ' limited -c 100
finds "without them too" 0 '^ok +core dumps +off' limited -c 0

finds "a model's file system is named" 0 '^ok +model +/.*/models/demo: ' "$polyreme" doctor "$POLYREME_SOURCE/models/demo"
finds "a model that is not there is a problem" 1 '^problem +model +/nowhere/model: No such file' "$polyreme" doctor /nowhere/model
if [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
    finds "a model in memory is told of" 0 '^ok +model +/dev/shm: tmpfs, in memory' "$polyreme" doctor /dev/shm
    finds "a directory in memory is noted" 0 '^note +directory +/dev/shm: tmpfs, in memory, .* free' in_folder /dev/shm
fi
mkdir "$work/gone"
(cd "$work/gone" && rmdir "$work/gone" && finds "a directory that is gone is a problem" 1 '^problem +directory ' "$polyreme" doctor &&
    [ "$failures" -eq 0 ]) || failures=$((failures + 1))

many_ranks_or_end "$failures"
fake mpirun 'echo "HYDRA build details:"; echo "    Version: 4.0.2"'
fake srun 'exit 127'
finds "an mpirun of another MPI is a problem" 1 '^problem +mpirun +is of another MPI than this program: HYDRA' with_fakes
fake mpirun 'sleep 1000'
finds "one that hangs is not waited for" 0 '^note +mpirun +--version failed' with_fakes
rm "$work/bin/mpirun"
fake srun 'printf "MPI plugin types are...\n\tpmi2\n\tnone\n"'
finds "an srun without PMIx is a problem in a job" 1 '^problem +srun +can start MPI programs by: pmi2, none$' in_job
finds "and a note before it" 0 '^note +srun +can start' with_fakes
fake srun 'printf "MPI plugin types are...\n\tpmix\n\tnone\n"'
finds "one with it is fine" 0 '^ok +srun +can start MPI programs by: pmix, none$' in_job
grep -qE "^note +Slurm +SLURM_PMIX_FENCE is not 'ring'" "$work/said"
check "the fence is advised" $?
finds "a default that Open MPI does not speak is noted" 0 '^note +srun +its default here is --mpi=pmi2' \
    env SLURM_JOB_ID=77 SLURM_MPI_TYPE=pmi2 PATH="$work/bin:$PATH" "$polyreme" doctor
finds "the switches of a node are named" 0 '^ok +switches +this node is under s0.s1;' \
    env SLURM_JOB_ID=77 SLURM_TOPOLOGY_ADDR=s0.s1.n1 SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node "$polyreme" doctor
if mpirun --version | grep -q 'Open MPI'; then
    echo 'pml = ob1' > "$work/params.conf"
    finds "the file of a setting is named" 0 "^ok +data plane +pml ob1 \\(by $work/params.conf\\)" \
        env OMPI_MCA_mca_base_param_files="$work/params.conf" "$polyreme" doctor
    finds "or the variable" 0 '^ok +data plane +pml ob1 \(by OMPI_MCA_pml\)' env OMPI_MCA_pml=ob1 "$polyreme" doctor
    if [ ! -e /sys/class/infiniband ]; then
        finds "UCX alone without InfiniBand is a problem" 1 '^problem +data plane +pml ucx ' env OMPI_MCA_pml=ucx "$polyreme" doctor
        finds "unless it may use anything" 0 '^ok +data plane +pml ucx ' \
            env OMPI_MCA_pml=ucx OMPI_MCA_opal_common_ucx_tls=any "$polyreme" doctor
        finds "an MPI that does not start is a problem" 1 '^problem +MPI start +failed' \
            env OMPI_MCA_pml=ucx "$polyreme" doctor --start-mpi
    fi
fi
finds "MPI can be started alone" 0 '^ok +MPI start +works: 1 rank, 1 on this node; MPI_THREAD_' "$polyreme" doctor --start-mpi
finds "and by each of several ranks" 0 '^ok +MPI start +works: 2 ranks, 2 on this node; MPI_THREAD_' mpirun -n 2 "$polyreme" doctor --start-mpi
exit "$((failures > 0))"
