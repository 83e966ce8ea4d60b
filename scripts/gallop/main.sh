#!/bin/sh
# GalLoP, few-shot, 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/gallop/main.sh DATASET [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" gallop/main "$@"
