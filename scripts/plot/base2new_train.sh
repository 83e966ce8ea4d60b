#!/bin/sh
# PLOT, base to new: train on 16 images of each class in the first half: scripts/plot/base2new_train.sh DATASET SEED [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plot/base2new_train "$@"
