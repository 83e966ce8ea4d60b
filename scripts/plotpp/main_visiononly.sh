#!/bin/sh
# PLOT++, first stage: the visual prompts, 1 to 16 shots, seeds 1 to 3 (or SEEDS=1-20): scripts/plotpp/main_visiononly.sh DATASET M [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" plotpp/main_visiononly "$@"
