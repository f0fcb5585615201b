"""Trained networks as files for other programs.

weights      a state dict, and the lines that load it
robustbench  the same with a model card and the JSON of RobustBench's form
"""
