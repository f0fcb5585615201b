#!/bin/bash
# A real Slurm on hosts of its own, all on this machine: `slurm_hosts.sh [HOSTS] [SECONDS]`, as root.
#
# A host is a namespace of network, name, mounts and processes, with a folder /tmp/ray of its own: n1, n2, ... run
# slurmd, and `login` runs munged and slurmctld, and holds the bridge that joins them. Nothing of it can be seen from the
# machine's own network, so that several can be up at once. Once all are idle, it prints one line:
#
#     ready PROCESS FOLDER        enter the host `login` by `nsenter -t PROCESS -n -u -m`, with SLURM_CONF=FOLDER/slurm.conf
#
# and lives until its stdin is closed, as by the death of whoever started it, or until SECONDS are over. Then, and also
# when this script is killed, every process of every host ends. Partitions: low (the default), high, which preempts low
# by requeueing, and kind, which high preempts by cancelling. Each host has two GPUs that only Slurm believes in.
set -euo pipefail
HOSTS=${1:-2} LIFE=${2:-600} CPUS=${CPUS:-2} GRACE=${GRACE:-0} KILL_WAIT=${KILL_WAIT:-10}
NET=10.77.0  # of their own network: no other can be hit
W=$(mktemp -d /tmp/slurm-XXXXXX)
chmod 755 "$W"
first=()     # each host's `unshare`, whose end ends the host

end() {
    trap '' EXIT TERM INT HUP
    exec 2> /dev/null  # bash tells of each that it was killed
    kill -9 "${first[@]}" || true
    wait || true
    rm -rf "$W"
}
trap end EXIT
trap 'exit 1' TERM INT HUP

# host NAME COMMAND: starts a host, and gives in `inside` the process by which it can be entered
host() {
    mkdir -p "$W/ray-$1"
    setpriv --pdeathsig KILL unshare --net --uts --mount --pid --fork --kill-child --mount-proc bash -c "
        hostname $1; ip link set lo up; mkdir -p /tmp/ray
        mount --bind $W/ray-$1 /tmp/ray; mount --bind $W/hosts /etc/hosts
        echo > $W/$1.up
        $2" > "$W/$1.out" 2>&1 < /dev/null &
    first+=($!)
    for _ in $(seq 100); do [ -e "$W/$1.up" ] && break; sleep 0.05; done
    [ -e "$W/$1.up" ] || { echo "no host $1: $(tail -n 1 "$W/$1.out")"; exit 1; }
    inside=$(ps -o pid= --ppid $! | tr -d ' ')
}

{ echo "127.0.0.1 localhost"; echo "$NET.100 login"; for i in $(seq "$HOSTS"); do echo "$NET.$i n$i"; done; } > "$W/hosts"
cat > "$W/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=login($NET.100)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$W/munge/socket
StateSaveLocation=$W/state
SlurmdSpoolDir=$W/spool-%n
SlurmctldPidFile=$W/slurmctld.pid
SlurmdPidFile=$W/slurmd-%n.pid
SlurmctldLogFile=$W/slurmctld.log
SlurmdLogFile=$W/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobRequeue=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdTimeout=60
KillWait=$KILL_WAIT
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n[1-$HOSTS] NodeAddr=$NET.[1-$HOSTS] CPUs=$CPUS RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=$GRACE
PartitionName=kind Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=$GRACE
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
mknod "$W/gpu0" c 1 3; mknod "$W/gpu1" c 1 3  # as /dev/null
echo "Name=gpu File=$W/gpu[0-1]" > "$W/gres.conf"
mkdir -m 755 "$W/munge" "$W/state"
mungekey -c -k "$W/munge/key" 2>/dev/null || { echo "munge makes no key"; exit 1; }

munge="--key-file=$W/munge/key --socket=$W/munge/socket --pid-file=$W/munge/pid --log-file=$W/munge/log"
host login "
    munged --force --num-threads=2 --seed-file=$W/munge/seed $munge
    while :; do slurmctld -D -c -f $W/slurm.conf; sleep 1; done"
login=$inside
on_login() { nsenter -t "$login" -n -u -m env SLURM_CONF="$W/slurm.conf" "$@"; }
on_login ip link add bridge type bridge
on_login ip addr add "$NET.100/24" dev bridge
on_login ip link set bridge up
for i in $(seq "$HOSTS"); do
    mkdir -p "$W/spool-n$i"
    host "n$i" "while :; do slurmd -D -f $W/slurm.conf -N n$i; sleep 0.5; done"
    on_login ip link add "to-n$i" type veth peer name eth0 netns "$inside"
    on_login ip link set "to-n$i" master bridge up
    nsenter -t "$inside" -n ip addr add "$NET.$i/24" dev eth0
    nsenter -t "$inside" -n ip link set eth0 up
done
idle() { [ "$(on_login sinfo -h -p low -t idle -o %D 2>/dev/null)" = "$HOSTS" ]; }
for _ in $(seq 300); do idle && break; sleep 0.1; done
idle || { echo "no Slurm within 30 s: $(tail -n 1 "$W"/slurmctld.log)"; exit 1; }
echo "ready $login $W"
read -r -t "$LIFE" || true
