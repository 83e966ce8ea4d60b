#!/bin/sh
# CoOp, the prompts of 16 ImageNet images a class on another data set, seeds 1 to 3 (or SEEDS=1-20): scripts/coop/eval.sh DATASET CFG [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" coop/eval "$@"
