#!/bin/sh
# SOT-GLP, cross-data-set and domain shift: train on 16 ImageNet images a class: scripts/sotglp/xd_train.sh SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" sotglp/xd_train "$@"
