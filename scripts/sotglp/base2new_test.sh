#!/bin/sh
# SOT-GLP, base to new: test what base2new_train.sh learned on the other classes: scripts/sotglp/base2new_test.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" sotglp/base2new_test "$@"
