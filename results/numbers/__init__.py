"""What was measured, as plain numbers: no text for readers, no pictures, and no torch.

`cells` holds what every table is made of (the accuracies of one method in one place, their spread, averages over data
sets); `summary` sorts run records into such cells, the package `protocols` the folder trees of published code.
`paired` has the statistics of two methods on the same images, `comparison` applies them to all pairs, `best` to what
tables show in bold.  `calibration`, `classes`, `differences`, `ablation`, `standing`, `plans`, `ood` and `feature_map`
each answer one question about runs that are already summarised or rebuilt.
"""
