#!/usr/bin/env bash
# A real Slurm on this machine: one controller and several nodes on the loopback, with pretend GPUs.
#
#   slurm/localhost.sh up              install what is missing (Debian, as root), configure, start, wait until it works
#   eval "$(slurm/localhost.sh env)"   this shell talks to it: sbatch, squeue, gradflow sweep launcher=slurm
#   slurm/localhost.sh status          daemons, nodes and queue; exit code 0 only if all are well
#   slurm/localhost.sh down            end jobs and daemons; `up` starts them again
#   slurm/localhost.sh purge           down, and delete all files
#   slurm/localhost.sh install         only install what is missing
#
# Set in the environment before `up`:
#   LOCALHOST_ROOT       all files, logs included            (/tmp/slurm-localhost)
#   LOCALHOST_NODES      nodes, called n1, n2, …             (2)
#   LOCALHOST_CPUS       CPUs that each node claims to have  (8)
#   LOCALHOST_GPUS       pretend GPUs of each node           (4)
#   LOCALHOST_MAX_ARRAY  MaxArraySize                        (1001)
#   LOCALHOST_PORT       first of NODES + 1 ports            (16817)
#
# Partition `debug` is the default. A job in partition `high` preempts those in `debug`: they are told 10 s before, and
# go back into the queue. There is no accounting database, so that sacct answers nothing: gradflow never asks it.
set -euo pipefail

ROOT=${LOCALHOST_ROOT:-${TMPDIR:-/tmp}/slurm-localhost}
NODES=${LOCALHOST_NODES:-2}
CPUS=${LOCALHOST_CPUS:-8}
GPUS=${LOCALHOST_GPUS:-4}
MAX_ARRAY=${LOCALHOST_MAX_ARRAY:-1001}
PORT=${LOCALHOST_PORT:-16817}
HOST=$(hostname -s)
export SLURM_CONF=$ROOT/slurm.conf PATH=$PATH:/usr/sbin:/sbin

PACKAGES=(slurmctld slurmd slurm-client munge)
PROGRAMS=(slurmctld slurmd sbatch scontrol munged)

die() { echo "localhost.sh: $*" >&2; exit 1; }

# until_true SECONDS WHAT COMMAND…
until_true() {
  local left=$(($1 * 10)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((left-- > 0)) || die "$what: waited in vain; see $ROOT/log"
    sleep 0.1
  done
}

# pid_of DAEMON: of one that runs; a pid file may outlive its process, and its pid may be another's by now
pid_of() {
  local pid program
  pid=$(tr -dc 0-9 2>/dev/null <"$ROOT/$1.pid") || return 1
  program=$(readlink "/proc/${pid:-none}/exe") || return 1
  [[ ${program##*/} == "${1%%.*}"* ]] && echo "$pid"
}

end() {
  local pid
  if pid=$(pid_of "$1"); then
    kill "$pid"
    for _ in {1..100}; do
      pid_of "$1" >/dev/null || break
      sleep 0.1
    done
    ! pid_of "$1" >/dev/null || kill -KILL "$pid"
  fi
  rm -f "$ROOT/$1.pid"
}

nodes() { sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$SLURM_CONF" 2>/dev/null; }

install_missing() {
  local policy=/usr/sbin/policy-rc.d made=0 program missing=0
  for program in "${PROGRAMS[@]}"; do command -v "$program" >/dev/null || missing=1; done
  ((missing)) || return 0
  [[ $(id -u) == 0 ]] || die "needs root to install ${PACKAGES[*]}"
  command -v apt-get >/dev/null || die "missing: ${PROGRAMS[*]}; install Slurm and munge"
  if [[ ! -e $policy ]]; then # so that no service of the whole machine is started
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    made=1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" >/dev/null ||
    die "apt-get install ${PACKAGES[*]} failed"
  ((!made)) || rm -f $policy
}

configure() {
  local gpus="" i
  rm -f "$ROOT/gres.conf"
  if ((GPUS > 0)); then # a node's GPU is a device file, and a copy of /dev/null is one
    for ((i = 0; i < GPUS; i++)); do [[ -c $ROOT/gpu$i ]] || mknod "$ROOT/gpu$i" c 1 3; done
    echo "Name=gpu File=$ROOT/gpu[0-$((GPUS - 1))]" >"$ROOT/gres.conf"
    gpus="Gres=gpu:$GPUS"
  fi
  cat >"$SLURM_CONF" <<CONF
ClusterName=localhost
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
# A requeued job waits for cred_expire to pass. Below KillWait + 3 s it would find its node still cleaning up, and the
# node would be drained.
AuthInfo=socket=$ROOT/munge.socket,cred_expire=8
KillWait=3
# No control groups, no pinning: a container may have neither.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MaxArraySize=$MAX_ARRAY
# Without preempt_send_user_signal a preempted job is sent SIGTERM, whatever its --signal says.
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmctldPidFile=$ROOT/slurmctld.pid
SlurmctldLogFile=$ROOT/log/slurmctld
StateSaveLocation=$ROOT/state
SlurmdPidFile=$ROOT/slurmd.%n.pid
SlurmdLogFile=$ROOT/log/slurmd.%n
SlurmdSpoolDir=$ROOT/spool.%n
# Nodes may claim what this machine has not.
SlurmdParameters=config_overrides
GresTypes=gpu
CONF
  for ((i = 1; i <= NODES; i++)); do
    echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + i)) CPUs=$CPUS RealMemory=65536 $gpus"
  done >>"$SLURM_CONF"
  cat >>"$SLURM_CONF" <<CONF
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=ALL MaxTime=INFINITE DefaultTime=60 PriorityTier=2 PreemptMode=OFF
CONF
}

all_idle() { [[ $(sinfo --noheader --Node --partition=debug --format=%T | grep -cE '^(idle|mixed|allocated)$') == $(nodes | wc -l) ]]; }

up() {
  [[ $(id -u) == 0 ]] || die "needs root"
  [[ -e $SLURM_CONF || ! -e $ROOT || -z $(ls -A "$ROOT") ]] || die "$ROOT: holds other files; purge would delete them"
  mkdir -p "$ROOT/log" "$ROOT/state"
  chmod 755 "$ROOT"
  install_missing
  pid_of slurmctld >/dev/null || configure # daemons that run keep the configuration they have read
  if ! pid_of munged >/dev/null; then
    [[ -s $ROOT/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$ROOT/munge.key")
    rm -f "$ROOT"/munge.socket*
    munged --key-file="$ROOT/munge.key" --socket="$ROOT/munge.socket" --pid-file="$ROOT/munged.pid" \
      --log-file="$ROOT/log/munged" --seed-file="$ROOT/munge.seed"
    until_true 10 munged munge --no-input --socket="$ROOT/munge.socket"
  fi
  pid_of slurmctld >/dev/null || slurmctld
  until_true 30 slurmctld scontrol ping
  local node
  for node in $(nodes); do pid_of "slurmd.$node" >/dev/null || slurmd -N "$node"; done
  until_true 30 nodes all_idle
  echo "up: $(nodes | wc -l) nodes. In this shell: eval \"\$($0 env)\""
}

down() {
  local file
  if pid_of slurmctld >/dev/null; then
    squeue --noheader --format=%A 2>/dev/null | sort -u | xargs --no-run-if-empty scancel || true
    for _ in {1..100}; do
      [[ -n $(squeue --noheader 2>/dev/null) ]] || break
      sleep 0.1
    done
  fi
  for file in "$ROOT"/slurmd.*.pid; do
    [[ ! -e $file ]] || end "$(basename "$file" .pid)"
  done
  end slurmctld
  end munged
  echo down
}

status() {
  local daemon pid well=0
  for daemon in munged slurmctld $(nodes | sed 's/^/slurmd./'); do
    if pid=$(pid_of "$daemon"); then echo "$daemon: runs ($pid)"; else
      echo "$daemon: does not run"
      well=1
    fi
  done
  ((well)) || { sinfo --Node && squeue && all_idle; } || well=1
  return $well
}

case ${1:-} in
up | down | status) "$1" ;;
install) install_missing ;;
env) echo "export SLURM_CONF=$SLURM_CONF" ;;
purge) [[ ! -e $SLURM_CONF ]] || { down && rm -rf "$ROOT"; } ;;
*) sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" && exit 2 ;;
esac
