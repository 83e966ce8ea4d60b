#!/bin/sh
# TipAdapter, few-shot, without training, 1 to 16 shots, seeds 1 to 3: scripts/tip_adapter/main.sh DATASET [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" tip_adapter/main "$@"
