#!/bin/sh
# TipAdapter, few-shot, without training, 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/tip_adapter/main.sh DATASET [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" tip_adapter/main "$@"
