"""A run in an object store: launches and readers work on a folder of this machine, and this keeps the two alike.

objects      what is asked of a store: read, write, list; what it answers, in one line
asked        what is asked of a launch, carried between a machine's folder and the store
cache        the folder of this machine that stands for a run in a store, and what is brought there
mark         by what the folder of such a run is known
lock         who holds a run in a store
mirror       what a launch writes, brought to the store beside it
checkpoints  a trial's file, brought to the store and from there
probes       whether a machine reaches a run
"""
