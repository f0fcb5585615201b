"""A sweep as jobs of Slurm.

command     `sweep slurm`: checks, writes the script, submits it
request     what is asked of Slurm, and whether the trials' `resources` agree with it
script      the job's script, for people to read and to edit
"""
