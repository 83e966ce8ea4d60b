#!/bin/sh
# PLOT++, second stage: text and visual prompts, from the first stage: scripts/plotpp/main_joint.sh DATASET M [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plotpp/main_joint "$@"
