"""What a launch would do, before it does anything.

plan             wanted trials, those already finished, what they will cost
left             what of the wanted trials is left to run, and how long it takes
measured         what epochs took here, of trials that cost the same
cost             what it will take: counted FLOPs and a named rate, memory, disk
shapes           the same by shape of trial: a row of all that cost the same
ahead            each shape by the best that is known of it: records, steps made now, or what was counted
room             on which machines, and how many at once
outlook          time, memory and disk there, in words
forecast         what a plan said of all that, for the record of the launch that follows
stopping         the rules that end trials early: as the records leave them, and in words
ended            what the search is told of a trial that has ended
start_from       what other runs know, for Optuna to start from
proxy            whether epochs at which trials may end order the points as the last one does
warnings         what of it can hardly be meant, with the key that ends it
too_short        samplers that never learn and rules that never end a trial, of which it warns
preset_lines     what of its trials differs from the presets
longer           which trials go on from the ends of shorter ones
data_lines       which data they read, and what was not looked at
fine_tune_lines  from which weights they start
"""
