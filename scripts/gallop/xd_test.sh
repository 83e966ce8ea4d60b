#!/bin/sh
# GalLoP, cross-data-set and domain shift: test what xd_train.sh learned on another data set: scripts/gallop/xd_test.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" gallop/xd_test "$@"
