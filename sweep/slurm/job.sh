#!/bin/bash
# @summary@
# Written by: @command@
#
#   sbatch THIS_FILE     submits it; once it has ended, again, for what is left: what is finished is not run twice
#   squeue --me          does it wait, or run?
#   scancel JOB          ends it; what was recorded is kept
#
# It is yours to edit: further lines #SBATCH, modules to load. What it does is told in robustsweep's docs/slurm.md.

# ---- What is asked of Slurm ----
@options@
# Slurm may run the job again: after the time limit, a preemption, a node that failed. It then goes on where it was.
#SBATCH --requeue
#SBATCH --open-mode=append
# @before@ s before its time limit, or up to 60 s sooner, as Slurm will, this script gets the signal USR1.
#SBATCH --signal=B:USR1@@before@

# ---- What runs ----
out=@out@
records="$out/@records@"
@launch@

# ---- What Slurm says ----
limit=      # set once the time limit is near
again=      # set by every signal: bash then waits no longer, and has to be told to wait again
sweep=      # the sweep's process, whose trials write their state once it is told, some seconds; it ends with 130
trap 'limit=yes again=yes; [ -z "$sweep" ] || kill -USR1 "$sweep"' USR1
trap 'again=yes' TERM       # scancel, a preemption: Slurm has told the sweep too, and this shell waits for its end
progress() { cat "$records" 2> /dev/null | grep -cE '^[{]"record":"(epoch|dynamics)"'; }
before=$(progress)
@ray_starts@
# ---- The sweep, a child of this shell, so that it is not a step of the job: the signal at the limit is for the shell ----
code=130
if [ -z "$limit" ]; then
    "${launch[@]}" &
    sweep=$!
    wait "$sweep"; code=$?
    while [ -n "$again" ]; do again=; wait "$sweep"; code=$?; done
fi
@ray_ends@
# ---- Once more? It ended with 0: all done, 1: some trials failed, 2: your input was wrong, 3: Ray is gone, 130: stopped ----
trap '' TERM     # by which Slurm ends what runs here once it is to run again, `scontrol` too
if [ "$code" = 3 ] || { [ -n "$limit" ] && [ "$code" -gt 2 ]; }; then
    if [ "$(progress)" -le "$before" ]; then
        echo "not run again: this time no epoch was recorded, as where --time is too short for one, or Ray has died"
    elif scontrol requeue "@job@"; then
        echo "stopped with exit code $code; Slurm runs this job again, and it goes on"
        exit 0
    else
        echo "Slurm does not run this job again, unless squeue shows it; submit it once more: it goes on"
    fi
fi
exit "$code"
