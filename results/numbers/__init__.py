"""What was measured, as plain numbers: no text for readers, no pictures, and no torch.

`cells` holds what every table is made of (the accuracies of one method in one place, their spread, averages over data
sets); `summary` sorts run records into such cells, `protocols` the folder trees of published code.  `classes`,
`differences`, `ablation`, `plans` and `feature_map` each answer one question about runs that are already summarised or
rebuilt; `logs` reads accuracies from log files, and `published` holds figures that others printed.
"""
