#!/bin/sh
# CLIP with a hand-written prompt, no training, no seed: scripts/coop/zeroshot.sh DATASET CFG [KEY VALUE ...]
exec sh "$(dirname -- "$0")/../run.sh" coop/zeroshot "$@"
