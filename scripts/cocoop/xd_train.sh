#!/bin/sh
# CoCoOp, cross-data-set and domain shift: train on 16 ImageNet images a class: scripts/cocoop/xd_train.sh SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" cocoop/xd_train "$@"
