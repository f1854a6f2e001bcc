#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `polyreme job` says inside jobs of a real Slurm: id, restarts, and the end that scontrol says, also after
# it was moved.
# timeout: 120
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"

# Asks in every way and waits to be asked again; the file "again" is the sign.
cat > ask.sh << END
#!/bin/bash
name=\${SLURM_ARRAY_TASK_ID:-0}.\${SLURM_RESTART_COUNT:-0}
srun -n1 "$polyreme" job --json > "$work/said.\$SLURM_JOB_ID.\$name" 2> "$work/ask.log"
until [ -e "$work/again.\$SLURM_JOB_ID.\$name" ]; do sleep 0.1; done
srun -n1 "$polyreme" job --json > "$work/said_again.\$SLURM_JOB_ID.\$name" 2>> "$work/ask.log"
END
await_file() { for _ in $(seq 150); do [ -s "$1" ] && return; sleep 0.1; done; }
said() { # FILE NAME
    await_file "$1"
    jq -r ".$2" "$1"
}
end_of() { date -d "$(job_field "$1" EndTime)" +%s; } # JOB

job=$(sbatch --parsable -n1 -t 10 ask.sh)
first=$(said "said.$job.0.0" end_unix_s)
verdict "the end is scontrol's" "$([ "$first" = "$(end_of "$job")" ]; echo $?)" "$first, scontrol $(end_of "$job")"
verdict "the id is the job's" "$([ "$(said "said.$job.0.0" id)" = "$job" ]; echo $?)" "$(cat "said.$job.0.0")"

scontrol update JobId="$job" TimeLimit=25
touch "again.$job.0.0"
moved=$(said "said_again.$job.0.0" end_unix_s)
verdict "so it is after it was moved" "$([ $((moved - first)) -eq 900 ]; echo $?)" "900 s later: $((moved - first))"

job=$(sbatch --parsable -n1 -t 10 ask.sh)
await_file "said.$job.0.0"
scontrol requeue "$job"
start_again "$job" 1 30 > state.log
again=$(said "said.$job.0.1" restarts)
verdict "a requeued job knows how often it was started" "$([ "$again" = 1 ]; echo $?)" "$again"
scancel "$job"

job=$(sbatch --parsable -n1 -t 10 --array=3,5 ask.sh)
for _ in $(seq 150); do [ "$(find . -name 'said.*.[35].0' -size +0 | wc -l)" -eq 2 ] && break; sleep 0.1; done
ids=$(jq -r .id said.*.[35].0 | sort | paste -sd' ')
verdict "an array's tasks are told apart" "$([ "$ids" = "${job}_3 ${job}_5" ]; echo $?)" "$ids"
ends=$(jq -r .end_unix_s said.*.3.0)
verdict "and have their ends" "$([ "$ends" = "$(end_of "${job}_3")" ]; echo $?)" "$ends, scontrol $(end_of "${job}_3")"
scancel "$job"

cat > components.sh << END
#!/bin/bash
#SBATCH -n1 -N1 -t 10
#SBATCH hetjob
#SBATCH -n1 -N1 -t 7
srun --het-group=1 "$polyreme" job --json > "$work/said.components"
sleep 300
END
job=$(sbatch --parsable components.sh)
until_s=$(said said.components end_unix_s)
verdict "of a heterogeneous job the first component's id and the earliest end count" \
    "$([ "$until_s" = "$(end_of "$job+1")" ] && [ "$until_s" -lt "$(end_of "$job+0")" ] && [ "$(said said.components id)" = "$job" ]; echo $?)" \
    "$(cat said.components), scontrol $(end_of "$job+0") $(end_of "$job+1")"
scancel "$job"

# Without a configuration libslurm ends whoever asks it.
text=$(env SLURM_CONF=/nowhere SLURM_JOB_ID=7 SLURM_JOB_END_TIME=1999999999 "$polyreme" job --json 2> err.log)
code=$?
verdict "a broken libslurm costs nothing: SLURM_JOB_END_TIME counts" \
    "$([ $code -eq 0 ] && [ "$(jq .end_unix_s <<< "$text")" = 1999999999 ]; echo $?)" "$text"
"$polyreme" job > out.log 2>&1
code=$?
verdict "outside a job it says so" "$([ $code -eq 4 ] && grep -q 'runs in no job' out.log; echo $?)" "exit code $code: $(cat out.log)"
exit "$((failures > 0))"
