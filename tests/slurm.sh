#!/usr/bin/env bash
# A SLURM cluster of two nodes, with accounting, on this machine, for tests. As root:
#   tests/slurm.sh up DIR      brings it up (again: does nothing); DIR is new or empty and holds all it writes
#   export SLURM_CONF=DIR/slurm.conf
#   tests/slurm.sh node DIR n1 starts a node that was killed
#   tests/slurm.sh down DIR    ends its jobs and daemons and removes DIR
# Debian has what it needs: apt-get install slurm-wlm slurmdbd munge mariadb-server
set -euo pipefail

die() { echo "slurm.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || die "say: slurm.sh up DIR, or slurm.sh down DIR"
PATH=$PATH:/usr/sbin:/sbin
missing=()
for p in slurmctld slurmd slurmdbd sbatch sacctmgr munged mariadbd mariadb-install-db; do command -v $p >/dev/null || missing+=($p); done
[ ${#missing[@]} = 0 ] || die "SLURM is not installed here: no ${missing[*]} (Debian: apt-get install slurm-wlm slurmdbd munge mariadb-server)"
[ "$(id -u)" = 0 ] || die "starting SLURM's daemons needs root"

DIR=$(realpath -m "$2") MARK="# A cluster for tests, made by slurm.sh"
export SLURM_CONF=$DIR/slurm.conf MYSQL_UNIX_PORT=$DIR/db.socket

ours() { [ -f "$SLURM_CONF" ] && [ "$(head -1 "$SLURM_CONF")" = "$MARK" ]; }
running() { [[ -r /proc/$1/stat && $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) != [ZX]* ]]; }
alive() { [ -s "$DIR/$1.pid" ] && running "$(cat "$DIR/$1.pid")"; }
wait_for() {  # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || die "$what (see $DIR/*.log)"; sleep .2; done
}
end() {  # a process: politely, then not
    kill "$1" 2>/dev/null || true
    for _ in $(seq 50); do running "$1" || return 0; sleep .1; done
    kill -9 "$1" 2>/dev/null || true
    for _ in $(seq 50); do running "$1" || return 0; sleep .1; done
}
hosts() {  # /etc/hosts without our line, and with it again if asked to; the file may be a mount, so it is written in place
    local kept; kept=$(grep -vF "# $DIR" /etc/hosts || true)
    printf '%s\n' "$kept" ${1:+"$1"} > /etc/hosts
}
idle() { [ "$(sinfo -hN -o %T | grep -cx idle)" = 2 ]; }

configure() {
    mkdir -p "$DIR/state" "$DIR/db"
    chmod 755 "$DIR"
    read -r ctld dbd n1 n2 < <(python3 -c "
import socket
s = [socket.socket() for _ in range(4)]
for x in s: x.bind(('127.0.0.1', 0))
print(*(x.getsockname()[1] for x in s))")
    local host; host=$(hostname -s)
    cat > "$SLURM_CONF" <<END
$MARK
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# With the default of 120 s a requeued job waits as long.
AuthInfo=socket=$DIR/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/ctld.pid
SlurmdPidFile=$DIR/%n.pid
SlurmctldLogFile=$DIR/ctld.log
SlurmdLogFile=$DIR/%n.log
SlurmdTimeout=5
KillWait=1
# Only a job that asks for it is requeued.
JobRequeue=0
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePass=$DIR/munge.socket
AccountingStoragePort=$dbd
JobAcctGatherType=jobacct_gather/linux
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$n1 CPUs=2 RealMemory=10000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$n2 CPUs=2 RealMemory=10000 State=UNKNOWN
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
END
    (umask 077; cat > "$DIR/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.socket
DbdHost=localhost
DbdPort=$dbd
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
LogFile=$DIR/dbd.log
PidFile=$DIR/dbd.pid
END
    head -c 128 /dev/urandom > "$DIR/munge.key")
    mariadb-install-db --no-defaults --user=root --datadir="$DIR/db" --auth-root-authentication-method=normal --skip-test-db >"$DIR/db.log" 2>&1 \
        || die "the data base could not be made (see $DIR/db.log)"
}

up() {
    [ ! -e "$DIR" ] || ours || [ -z "$(ls -A "$DIR")" ] || die "$DIR: the folder is not empty: choose a new one"
    [ ${#DIR} -le 90 ] || die "$DIR: this path is too long for a socket: choose a shorter one"
    ours || configure
    hosts "127.0.0.1 n1 n2  # $DIR"
    alive munge || munged --force --key-file="$DIR/munge.key" --socket="$DIR/munge.socket" --pid-file="$DIR/munge.pid" \
        --log-file="$DIR/munge.log" --seed-file="$DIR/munge.seed" 2>>"$DIR/munge.log"
    alive db || setsid -f mariadbd --no-defaults --user=root --datadir="$DIR/db" --socket="$DIR/db.socket" --pid-file="$DIR/db.pid" \
        --skip-networking --innodb-buffer-pool-size=64M </dev/null >>"$DIR/db.log" 2>&1
    wait_for 60 "MariaDB does not answer" mariadb --no-defaults -u root -e 'create database if not exists slurm_acct_db'
    alive dbd || slurmdbd
    wait_for 60 "slurmdbd does not answer" sacctmgr -n list cluster
    sacctmgr -n list cluster | grep -qw local || sacctmgr -i add cluster local >/dev/null
    alive ctld || slurmctld
    wait_for 60 "slurmctld does not answer" scontrol ping
    for n in n1 n2; do node $n; done
    wait_for 60 "the nodes are not idle" idle
}

node() { alive "$1" || slurmd -N "$1"; }

down() {
    [ -e "$DIR" ] || return 0
    ours || die "$DIR: slurm.sh made no cluster there"
    if alive ctld; then
        timeout 10 scancel --state=PENDING --user=root 2>/dev/null || true
        timeout 10 scancel --user=root --signal=KILL 2>/dev/null || true
        timeout 10 scancel --full --user=root --signal=KILL 2>/dev/null || true
    fi
    for d in n1 n2 ctld dbd db munge; do ! alive $d || end "$(cat "$DIR/$d.pid")"; done
    # What a killed node may have left: the steps and processes of jobs whose environment names this cluster.
    for p in /proc/[0-9]*; do
        grep -qzxF "SLURM_CONF=$SLURM_CONF" "$p/environ" 2>/dev/null || continue
        if grep -qz '^SLURM_JOB_ID=' "$p/environ" 2>/dev/null || grep -qx slurmstepd "$p/comm" 2>/dev/null; then end "${p#/proc/}"; fi
    done
    hosts
    rm -rf "$DIR"
}

case $1 in
    up) up ;;
    down) down ;;
    node) ours || die "$DIR: no cluster there"; node "$3" ;;
    *) die "say: slurm.sh up DIR, or slurm.sh down DIR" ;;
esac
