#!/bin/sh
# KgCoOp, cross-data-set and domain shift: train on 16 ImageNet images a class: scripts/kgcoop/xd_train.sh SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" kgcoop/xd_train "$@"
