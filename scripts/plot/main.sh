#!/bin/sh
# PLOT, few-shot, 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/plot/main.sh DATASET N [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plot/main "$@"
