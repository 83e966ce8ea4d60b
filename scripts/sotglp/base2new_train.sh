#!/bin/sh
# SOT-GLP, base to new: train on 16 images of each class in the first half: scripts/sotglp/base2new_train.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" sotglp/base2new_train "$@"
