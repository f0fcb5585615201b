"""One page that shows a sweep to people: values -> HTML that needs nothing beside itself.

page      the whole page, and what guards it
markup    text and elements, in which nothing of others' is obeyed
head      its beginning: the question, and what became of the trials
verdicts  each claim with its interval, and what it means
settings  the best settings of each method
pictures  figures and tables, as `sweep figures` makes them
columns   trials as columns, for the browser: settings, accuracies, curves, what happened
cost      what was planned, and what it took
origin    commands, versions, what stands where
sources   references, with BibTeX, of what a run used
browser/  how the page looks, and what it does: styles and scripts
vendored/  the libraries of others that it holds, with their licences (`make vendored` fetches them)
"""
