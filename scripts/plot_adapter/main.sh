#!/bin/sh
# PLOT-Adapter, few-shot: what plot/main.sh learned, and a cache; 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/plot_adapter/main.sh DATASET N [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plot_adapter/main "$@"
