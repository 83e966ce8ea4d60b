#!/bin/sh
# GalLoP, base to new: test what base2new_train.sh learned on the other classes: scripts/gallop/base2new_test.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" gallop/base2new_test "$@"
