"""Many runs on a cluster: what a tree has submitted, how far it is, and how it is ended.

- `journal`: what a tree of runs knows of its submissions, in its hidden folder .cluster
- `processes`: which process of which machine, so that a number that was given out again deceives nobody
- `scheduler`: what Slurm, or this machine, says of the jobs; `status`: how far every run is, by all of these
- `flags`: what a command line asks of a cluster; `slurm`: arrays of jobs, through submitit
- `detached`: a process of this machine that goes on when its command has ended
"""
