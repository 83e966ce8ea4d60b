#!/bin/sh
# PLOT, cross-data-set and domain shift: train on 16 ImageNet images a class: scripts/plot/xd_train.sh SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plot/xd_train "$@"
