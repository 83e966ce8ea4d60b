"""Many runs: planned, skipped where they are complete, and made by one process or several.

`sweep` (a grid) and `experiments` (the published scripts) are two front ends, with the `flags` that they share.  Both
hand plans to `planning`, which builds every config before the first run starts, and the jobs to `jobs`, which makes
them: `states` says how far each is, `workers` are the processes, `progress` is what the console shows.
"""
