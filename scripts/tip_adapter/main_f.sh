#!/bin/sh
# TipAdapterF, few-shot, with keys that learn, 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/tip_adapter/main_f.sh DATASET [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" tip_adapter/main_f "$@"
