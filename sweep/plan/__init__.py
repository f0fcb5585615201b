"""What a launch would do, before it does anything.

plan             wanted trials, those already finished, what they will cost
measured         what epochs took here, of trials that cost the same
cost             what it will take: counted FLOPs and a named rate, memory, disk
warnings         what of it can hardly be meant, with the key that ends it
preset_lines     what of its trials differs from the presets
fine_tune_lines  from which weights they start
"""
