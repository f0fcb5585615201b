"""A user's own network, data, objective, optimizer or schedule, by import path: docs/own_code.md is its page.

reference  what such a name looks like, and the keys that a part of the config then takes: no torch here
source     the files that belong to it, found without running any, and their hash
snapshot   those files as one zip, and what is imported from it, and from nothing else
stage      what is being done with it, for messages
options    how it is called: the options that its signature has, checked
"""
