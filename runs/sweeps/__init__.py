"""Many runs: planned, skipped where they are complete, and made by one process or several.

`sweep` (a grid) and `experiments` (the published scripts) are two front ends, with the `flags` that they share.  Both
hand plans to `planning`, which builds every config before the first run starts, and the jobs to `jobs`, which makes
them: `states` says how far each is, `workers` are the processes, `progress` is what the console shows.

With --cluster, `submitting` sends the jobs elsewhere and ends: `standing` says which are complete or under way,
`batches` which share a job, `task` is what a job executes (`shared`: runs of several processes), `waiting` is --wait.
"""
