#!/bin/sh
# CoOp, few-shot, seeds 1 to 3 (or SEEDS=1-20): scripts/coop/main.sh DATASET CFG CTP NCTX SHOTS CSC [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" coop/main "$@"
