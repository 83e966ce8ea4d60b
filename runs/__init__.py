"""Runs: what is asked for, made, recorded, found again and restored; the floor between the engine and the tools.

A run is a folder with config.yaml (what was asked for), log.txt, checkpoints and, as its very last act, result.json
(what came out).  In reading order:

- `command_line`: the flags of train.py; `config`: from flags and files to a checked config, once for every run
- `execute`: one run in this process, from its request to its record
- `folder`: whose run a folder is, `lock`: one process at a time in it
- `keys`: which keys of a config decide a result, and to which method a run belongs
- `record`: what result.json and config.yaml hold, and how they are read (without torch); `writing`: the record written
- `layout`: the names of run folders, made and read by one description
- `methods`: which runs are of the same method and what to call it; `names`: short names such as output:PLOT@16
- `plugins`: the plugins that a run remembers, and the configs that they bring
- `files`: files written whole or not at all, errors that a caller can mend, lines on the console
- `sweeps/`: many runs: planned, made by one or several processes, listed
- `cluster/`: many runs on a cluster: what a tree has submitted, and how far it is
- `restore/`: a run's trainer rebuilt from what it left, to predict with or to look into

predict, results, plot, scripts, benchmarks and train.py may import this package; dassl, clip, trainers, datasets and
demo may not, and it imports nothing of the former.
"""
