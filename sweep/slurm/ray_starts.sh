
# ---- Ray on the nodes of the job, as steps of it; this node is the head ----
ray=(@python@ -P -m ray.scripts.scripts)       # the command `ray`
cpus=${SLURM_CPUS_PER_TASK:-@cpus@}
log="$out/logs/slurm-$SLURM_JOB_ID-ray.log"
mkdir -p "$out/logs"
# A token and a port of this job's own, for others, jobs of yours too, may run on these nodes. The token is in a file that
# you alone may read, and goes with the job; in the environment every program of the job would have it.
token="$out/logs/slurm-$SLURM_JOB_ID-token"
trap 'rm -f "$token"' EXIT
rm -f "$token"; (umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$token") || exit 2
unset RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token" RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0
address=$(getent ahostsv4 "$SLURMD_NODENAME" | awk '$1 !~ /^127[.]/ { print $1; exit }')
address=${address:-$(hostname -I | awk '{ print $1 }')}
listens() { (: < "/dev/tcp/$address/$port") 2> /dev/null; }
port=$((20000 + SLURM_JOB_ID % 5000 * 2))
while listens; do port=$((port + 2)); done
# On each node: a folder of Ray's own, which nobody else may read, and which goes when Ray ends.
node='
    folder=$(mktemp -d /tmp/ray-XXXXXXXX) || exit 1
    trap "rm -rf $folder" EXIT
    "$@" --block --temp-dir="$folder/r" &
    trap "kill $!" TERM USR1
    wait $!; wait $!
'
# All of this environment, whatever --export or SBATCH_EXPORT has told sbatch: srun would hold to that.
step=(srun --overlap --export=ALL --cpus-per-task="$cpus")
start=(bash -c "$node" ray "${ray[@]}" start --num-cpus="$cpus" --object-store-memory=@store@ --disable-usage-stats)
"${step[@]}" --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" \
    "${start[@]}" --head --node-ip-address="$address" --port="$port" --include-dashboard=false@client@ \
    >> "$log" 2>&1 &
steps=($!)
until listens || [ -n "$limit" ]; do
    kill -0 "${steps[0]}" 2> /dev/null || { echo "Ray's head does not start: see $log"; exit 3; }
    sleep 0.5
done
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    "${step[@]}" --nodes="$others" --ntasks="$others" --exclude="$SLURMD_NODENAME" \
        "${start[@]}" --address="$address:$port" >> "$log" 2>&1 &
    steps+=($!)
fi
launch+=(--address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES")
