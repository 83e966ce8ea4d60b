#!/bin/sh
# KgCoOp, base to new: train on 16 images of each class in the first half: scripts/kgcoop/base2new_train.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" kgcoop/base2new_train "$@"
