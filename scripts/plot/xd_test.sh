#!/bin/sh
# PLOT, cross-data-set and domain shift: test what xd_train.sh learned on another data set: scripts/plot/xd_test.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plot/xd_test "$@"
