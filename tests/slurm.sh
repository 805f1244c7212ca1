#!/bin/bash
# The Snakefile's jobs under Slurm, for real: a cluster of one node, started and stopped here, works on a clone of what
# is committed. It is interrupted in the middle of a training and started again, and must then go on where it was.
# Needs root on Debian 12 and `make setup`. The node's GPUs are none: what is tried is that the jobs ask for them.
set -euo pipefail
cd "$(dirname "$0")/.."

PLUGIN="snakemake-executor-plugin-slurm==2.8.0 snakemake-executor-plugin-slurm-jobstep==0.6.1"
PYTHON=$PWD/.venv/bin/python
NODE=$(hostname -s)

say() { echo "slurm: $*"; }
fail() { echo "error: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] || fail "this needs root on Debian, such as in a container"
[ -x "$PYTHON" ] || fail "there is no .venv; \`make setup\` makes it"
[ ! -e /etc/slurm/slurm.conf ] || fail "there is a /etc/slurm/slurm.conf: this machine has a Slurm of its own"

work=$(mktemp -d)
run=$work/run.log # what Snakemake says
daemons=()
interrupted=
stop() {
	status=$?
	trap - EXIT
	set +e
	[ $status = 0 ] || tail -n 25 "$run" "$work"/*.log >&2 2>/dev/null
	[ -z "$interrupted" ] || kill -KILL "$interrupted" 2>/dev/null
	scancel --user=root 2>/dev/null
	for _ in {1..60}; do [ -n "$(squeue --noheader 2>/dev/null)" ] && sleep 0.5 || break; done
	for signal in TERM KILL; do kill -$signal "${daemons[@]}" 2>/dev/null && sleep 1; done
	[ "$(readlink /etc/slurm/slurm.conf)" != "$work/slurm.conf" ] || rm /etc/slurm/slurm.conf /etc/slurm/gres.conf
	rm -rf "$work"
	[ $status = 0 ] && say "passed" || say "FAILED"
	exit $status
}
trap stop EXIT
trap 'fail "stopped from outside"' INT TERM

within() { # within SECONDS COMMAND...: wait until the command succeeds
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "waited in vain for: $*"
		sleep 0.2
	done
}

# --- A cluster --------------------------------------------------------------------------------------------------------

if ! type slurmctld slurmd munged sbatch >/dev/null 2>&1; then
	say "installing slurm-wlm and munge"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null 2>&1
fi
chmod 755 "$work" # munge wants its socket to be reached by all
mkdir "$work/munge" "$work/state" "$work/spool"
mungekey --create --keyfile "$work/munge/key"
cat >"$work/slurm.conf" <<-END
	ClusterName=test
	SlurmctldHost=$NODE(127.0.0.1)
	SlurmUser=root
	AuthInfo=socket=$work/munge/socket
	StateSaveLocation=$work/state
	SlurmdSpoolDir=$work/spool
	SlurmctldPidFile=$work/slurmctld.pid
	SlurmdPidFile=$work/slurmd.pid
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	MpiDefault=none
	KillWait=5
	SelectType=select/cons_tres
	SelectTypeParameters=CR_Core_Memory
	# Jobs that take more memory than they asked for end, as on other clusters; those that ended stay in the list.
	JobAcctGatherType=jobacct_gather/linux
	JobAcctGatherFrequency=1
	JobAcctGatherParams=OverMemoryKill
	MinJobAge=3600
	GresTypes=gpu
	NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/ {print $2}') Gres=gpu:2
	PartitionName=all Nodes=$NODE Default=YES
END
printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$work/gres.conf"
# Not SLURM_CONF: the jobs' plugin takes such variables away from `srun`.
ln -s "$work/slurm.conf" "$work/gres.conf" /etc/slurm/

say "starting a cluster"
munged --foreground --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
	--seed-file="$work/munge/seed" --log-file="$work/munge/log" >"$work/munged.log" 2>&1 &
daemons+=($!)
within 20 test -S "$work/munge/socket"
slurmctld -D >"$work/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D >"$work/slurmd.log" 2>&1 &
daemons+=($!)
within 30 sh -c 'sinfo --noheader --format=%T | grep -qx idle'

# --- The graph on it --------------------------------------------------------------------------------------------------

git clone --quiet . "$work/odin"
# Both are pure Python, and what they need is pinned already.
"$PYTHON" -m pip install --quiet --quiet --disable-pip-version-check --no-deps --target "$work/plugin" $PLUGIN
cd "$work/odin"
export PYTHONPATH=$work/odin:$work/plugin
unset ODINLIB_RESULTS
demo=$PWD/results/demo
network=$demo/networks/wrn-16-1_shapes10
targets=("$demo/.jobs/wrn-16-1+shapes10.responded" "$demo/.jobs/mlp-256x3+digits.responded"
	build/pages/paper/E-proposition-1.ipynb)
# No accounting here, so `squeue` is asked, and often; on a cluster none of the --slurm options is needed.
graph=("$PYTHON" -m snakemake --executor slurm --jobs 4 --default-resources mem_mb=3000 runtime=30 --config gpu=1
	--slurm-status-command squeue --slurm-init-seconds-before-status-checks 3 --slurm-keep-successful-logs)

say "running the jobs of two networks and a page, up to the first epoch of a training"
# A shell has what it starts in the background ignore interrupts.
env --default-signal=INT "${graph[@]}" -- "${targets[@]}" >"$run" 2>&1 &
interrupted=$!
within 600 test -e "$network.checkpoint"
kill -INT $interrupted
wait $interrupted && fail "Snakemake was interrupted and says that all is done"
interrupted=
within 120 sh -c '[ -z "$(squeue --noheader)" ]'
[ -e "$network.checkpoint" ] && [ ! -e "$network.safetensors" ] || fail "the training did not stop at its checkpoint"

say "starting again"
"${graph[@]}" --rerun-incomplete -- "${targets[@]}" >"$run" 2>&1 || fail "the jobs did not finish"
for made in "${targets[@]}" "$network.safetensors" "$demo/networks/mlp-256x3_digits.safetensors"; do
	[ -e "$made" ] || fail "$made was not made"
done
starts=$(grep -rhaoE 'train wrn-16-1: .*[0-9]+/[0-9]+ \[00:00<\?' .snakemake/slurm_logs |
	grep -oE '[0-9]+/' | sort -n | xargs)
[[ $starts =~ ^0/\ [1-9][0-9]*/$ ]] || fail "the training should have continued, but started at batch ${starts:-?}"
"$PYTHON" -m odinlib.cli seal --profile demo >>"$run" 2>&1
"$PYTHON" -m odinlib.cli verify --profile demo >>"$run" 2>&1

say "what the jobs asked for"
jobs=$(scontrol show job --oneliner)
for rule in train respond notebook; do
	count=$(grep -c "Comment=rule_$rule" <<<"$jobs") || fail "no job of the rule $rule was submitted"
	with=$(grep "Comment=rule_$rule" <<<"$jobs" | grep -c 'TresPerJob=gres.gpu:1') || true
	say "$rule: $with of $count jobs with a GPU"
	[ "$with" = "$([ $rule = notebook ] && echo 0 || echo "$count")" ] || fail "that is not what \`--config gpu=1\` says"
done

"${graph[@]}" -- "${targets[@]}" >"$run" 2>&1
grep -q "Nothing to be done" "$run" || fail "a second run found something to do"
