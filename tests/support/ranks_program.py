"""Runs, one after another, in each of the processes that torchrun has started, and what may befall one of them.

    torchrun --standalone --nproc-per-node 2 -m tests.support.ranks_program PLAN.json

The plan is a list of {"argv": words of train.py, "deed": what rank 1 does after the second step of the second epoch}.
The exit statuses are written to PLAN.json.rank0, ...
"""
from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import train
from dassl.engine import endings, processes
from dassl.plain.ranks import rank, started_as
from dassl.utils import set_random_seed
from tests.support.engine import TinyPlugin, tiny_cfg
from trainers.coop import CoOp


def hang() -> None:
    """Wait until the others have said that this process hangs, so that the next run can begin."""
    since = time.monotonic()
    while not endings.failed() and time.monotonic() - since < 60:
        time.sleep(0.1)


DEEDS = {
    "fail": lambda: 1 / 0,
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "stop": lambda: os.kill(os.getpid(), signal.SIGTERM),
}
deed = ""
usual_step, usual_end = CoOp.forward_backward, CoOp.after_train


def step(self, batch):
    meters = usual_step(self, batch)
    if deed and rank() == 1 and (self.epoch, self.batch_idx) == (1, 1):
        DEEDS[deed]()
    return meters


def end(self):
    processes.same(self.model.prompt_learner.ctx.tolist(), "the learned context")
    usual_end(self)


def run(entry: dict) -> int:
    """Make one run; of a plan without `argv` the tiny plugin's, which shares out nothing, in the folder `tiny`."""
    global deed
    for name in (signal.SIGTERM, signal.SIGINT):  # as in a new process
        signal.signal(name, signal.SIG_DFL)
    deed = entry.get("deed", "")
    if "argv" in entry:
        return train.main(entry["argv"])
    with processes.process_group():
        set_random_seed(5)
        TinyPlugin(tiny_cfg(entry["tiny"], "TEST.FINAL_MODEL", "best_val")).train()
    return 0


if __name__ == "__main__":
    CoOp.forward_backward, CoOp.after_train = step, end
    plan = Path(sys.argv[1])
    statuses = []
    for entry in json.loads(plan.read_text()):
        statuses.append(run(entry))
        Path(f"{plan}.rank{started_as()}").write_text(json.dumps(statuses))
    sys.exit(statuses[-1])
