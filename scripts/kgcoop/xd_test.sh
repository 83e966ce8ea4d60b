#!/bin/sh
# KgCoOp, cross-data-set and domain shift: test what xd_train.sh learned on another data set: scripts/kgcoop/xd_test.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" kgcoop/xd_test "$@"
