"""A real Slurm on this machine alone: slurmctld, two slurmd of one core each, and a munged of their own.

Every process of the test suite that needs one starts its own, on ports that were free and with sockets in a folder of
its own, so that none knows of another.  The daemons are children of the test process and end with it.  It takes two
seconds to start.  Root alone can start jobs as slurmd does, so without root, or without Slurm, the tests are skipped:

    apt-get install slurmctld slurmd slurm-client munge
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel", "setpriv")
NODES = ("node1", "node2")
PATIENCE = 30  # seconds for what takes one

# No accounting and no cgroups.  A requeued job may begin again after seven seconds, one that is ended has five.  A job
# of the partition `urgent` takes the place of one of `main`, which is told to end (SIGTERM), and is requeued.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=5
MinJobAge=300
MaxArraySize=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if lacking:
        return f"no Slurm here ({', '.join(lacking)} missing): apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons start jobs as root alone"


class Slurm:
    """The daemons; `conf` is what SLURM_CONF must be for programs that are to talk to them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        host, ports = socket.gethostname().partition(".")[0], _free_ports(1 + len(NODES))
        nodes = (
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=64000 State=UNKNOWN"
            for name, port in zip(NODES, ports[1:], strict=True)
        )
        text = CONF.format(folder=folder, host=host, ports=ports, nodes="\n".join(nodes))
        self.conf.write_text(text)
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))

    def start(self) -> None:
        """Start all daemons; RuntimeError, with what they say, where the nodes do not come up."""
        self.start_munged()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.until(self.idle)

    def idle(self) -> bool:
        """Whether both nodes are up, and no job runs or has yet to end on one."""
        states = self.ask("sinfo", "--noheader", "--partition=main", "--Node", "--format=%T").split()
        return states == ["idle"] * len(NODES)

    def clear(self) -> None:
        """End all jobs, and wait until they have ended."""
        self.ask("scancel", "--user=root")
        self.until(self.idle)

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        with suppress(subprocess.SubprocessError, RuntimeError):
            if "slurmctld" in self.daemons:
                self.clear()
        for name in list(self.daemons)[::-1]:
            self.end(name)

    def start_munged(self) -> None:
        """Start the daemon that says who asks."""
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
        flags = (f"--{flag}={self.folder}/munge.{name}" for flag, name in files.items())
        self._start("munged", "--foreground", "--force", "--num-threads=2", *flags)
        self.until(lambda: (self.folder / "munge.socket").exists())

    def start_controller(self) -> None:
        """Start slurmctld, with the jobs that it knew when it ended."""
        self._start("slurmctld", "-D")
        self.until(lambda: "UP" in self.ask("scontrol", "ping"))

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        self._start("slurmd", "-D", "-N", node, name=node)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End "munged", "slurmctld" or the slurmd of a node."""
        process = self.daemons.pop(name)
        process.send_signal(number)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, program: str, *arguments: str, name: str = "") -> None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        command = ["setpriv", "--pdeathsig=TERM", program, *arguments]  # none outlives the tests
        with open(self.folder / f"{name or program}.out", "ab") as out:
            environment = {**os.environ, "PATH": path, "SLURM_CONF": str(self.conf)}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        self.daemons[name or program] = process

    def ask(self, *command: str) -> str:
        """What a client of Slurm (squeue, scontrol, ...) prints; "" where it fails."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
        return done.stdout.strip() if done.returncode == 0 else ""

    def submit(self, script: str, *flags: str) -> str:
        """Submit shell commands; the number of the job."""
        flags = ("--parsable", f"--output={self.folder}/%j.out", *flags)
        return self.ask("sbatch", *flags, f"--wrap={script}")

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ...; "" for a job that Slurm does not know."""
        return next((word[9:] for word in self.ask("scontrol", "show", "job", job).split() if "JobState=" in word), "")

    def release(self, job: str) -> None:
        """Let a requeued job begin at once: Slurm waits until the credential of its first start is no longer valid."""
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def until(self, holds, patience: float = PATIENCE) -> None:
        """Wait until something holds; RuntimeError, with the ends of all logs, where it never does."""
        deadline = time.monotonic() + patience
        while not holds():
            if time.monotonic() > deadline:
                logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
                ends = (f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)
                raise RuntimeError(f"Slurm: this has not come to hold within {patience} s\n" + "\n".join(ends))
            time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, all at the same time."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """A Slurm that runs within the block; where it does not start, tests are skipped."""
    slurm = Slurm(folder)
    try:
        try:
            slurm.start()
        except RuntimeError as error:
            raise unittest.SkipTest(f"Slurm is installed, but does not start here: {error}") from error
        yield slurm
    finally:
        slurm.stop()


if __name__ == "__main__":  # python -m tests.support.slurm FOLDER: to try commands by hand, until Ctrl-C
    with running(Path(sys.argv[1])) as started, suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={started.conf}", flush=True)
        signal.pause()
