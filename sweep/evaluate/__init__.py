"""Attacks on trained networks, up to AutoAttack: what of it is recorded is not run again.

command    `sweep evaluate` and its options
plan       which trained networks, attacks and images, and what of it is recorded
run        an evaluation, through Ray or in this process
chunk      one chunk of images as a process runs it
ray_pool   jobs on Ray by processes that stay, such as those chunks
"""
