#!/bin/sh
# GalLoP, cross-data-set and domain shift: train on 16 ImageNet images a class: scripts/gallop/xd_train.sh SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" gallop/xd_train "$@"
