"""What is known, where does it come from, and how is it taken back, held still or carried elsewhere?

`rows` says which row of a checkpoint belongs to which part, model and class: forgetting, exporting and merging choose
rows, and never look into them. `lineage` says where a checkpoint comes from. `learning` is what a running controller
keeps of that, and which parts are frozen. `change` does the same things to a running controller as to a file.
`account` tells what is known in words and figures.

The next thing that is learned: a field of `core.snapshot.Snapshot`, a word in `domain.learned.Part`, a line in `rows`.
"""
