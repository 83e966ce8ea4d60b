#!/bin/sh
# PLOT++, test what main_joint.sh learned: scripts/plotpp/evaluation.sh DATASET M [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plotpp/evaluation "$@"
