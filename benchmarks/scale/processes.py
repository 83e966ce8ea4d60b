"""One run on several processes, and many classes: time, memory of each process, bytes exchanged, largest difference.

A step of PLOT is made by 1 process and by 2 (torchrun, gloo), each with one thread, in turns: of the same work (strong
scaling: the ideal ratio is 2) and of twice the classes (weak scaling: the ideal is 1).  Beside them stands 1 process
with two threads, which has the same cores.  Then the classes: all of them, in chunks, and a sample of them
(CLASS_SAMPLE), on towers so small that tens of thousands of classes can be tried.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from clip import ranks
from clip.frozen import freeze_image_tower
from clip.model import CLIP
from dassl.utils.memory import keep_freed_memory
from trainers.parts.class_sample import draw_classes
from trainers.plot.model import PlotModel
from trainers.plot.transport import Transport

from ..measure import peak, start_of_peak
from ..sizes import RESOLUTION, TEXT_TOWER, Sizes
from ..subjects import clip_model, learner_of

TINY = "tiny"
TINY_SIZES: dict[str, Any] = {  # 49 places, as RN50
    "embed_dim": 64, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 32, "transformer_width": 64,
    "transformer_heads": 1, "transformer_layers": 2,
}  # fmt: skip
SCALED = {"classes": 48, "batch": 8}  # of the comparison of processes, on RN50
MANY = (1000, 5000, 21841)
CHUNK, SAMPLE = 500, 1000


class Work(NamedTuple):
    """A step to measure, and by whom.

    Attributes
    ----------
    sizes
        Its sizes; the backbone may be TINY.
    processes, threads
        W, and the threads of each.
    chunk, sample
        TEXT_CHUNK and MATCH_CHUNK, and CLASS_SAMPLE; 0 for none.
    """

    sizes: Sizes
    processes: int = 1
    threads: int = 1
    chunk: int = 0
    sample: int = 0


class Figures(NamedTuple):
    """What was measured.

    Attributes
    ----------
    seconds
        Of a step, of the slowest process.
    peak
        Bytes of a process above model and input, the largest.
    received
        Bytes that a process receives in a step.
    arrays
        What it computed: logits, and the gradient of the contexts.
    """

    seconds: float
    peak: float
    received: float
    arrays: list[np.ndarray]


# --- in a process ----------------------------------------------------------------------------------------


def model_of(sizes: Sizes) -> PlotModel:
    """Build PLOT with random weights that are always the same."""
    if sizes.backbone == TINY:
        torch.manual_seed(0)
        clip = CLIP(image_resolution=RESOLUTION, **TEXT_TOWER | TINY_SIZES).float().requires_grad_(False).eval()
    else:
        clip = clip_model(sizes.backbone)
        freeze_image_tower(clip.visual)
    return PlotModel(learner_of(clip, sizes), clip, Transport())


def step_of(work: Work) -> Callable[[], list[Tensor]]:
    """Make a step: images of different classes, loss, backward pass, and the mean of the gradients."""
    sizes = work.sizes
    model = model_of(sizes)
    model.text_encoder.chunk = work.chunk
    model.transport = Transport(chunk=work.chunk)
    images = torch.randn(sizes.batch, 3, RESOLUTION, RESOLUTION)
    labels = torch.arange(sizes.batch) % sizes.classes
    context = model.prompt_learner.ctx

    def step() -> list[Tensor]:
        sample = draw_classes(labels, sizes.classes, work.sample, seed=1, step=0) if work.sample else None
        scoring = model.scoring(sample.classes, sample.correction) if sample else nullcontext()
        context.grad = None
        with ranks.sharing(), scoring:
            logits = model(images)
            loss = model.cross_entropy(logits, sample.labels if sample else labels)
        loss.backward()
        ranks.average_gradients([context])
        assert context.grad is not None
        return [logits.detach(), context.grad]

    return step


def measure_here(work: Work, repeats: int) -> dict[str, Any]:
    """Measure in this process, which may be one of several."""
    torch.set_num_threads(work.threads)
    step, wire = step_of(work), Wire()
    before = start_of_peak()
    with wire:
        results = step()
    most = peak() - before
    seconds = []
    for _ in range(repeats):
        if work.processes > 1:
            dist.barrier()
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    arrays = [x.float().numpy() for x in results]
    return {"seconds": seconds, "peak": most, "received": wire.received, "arrays": arrays}


class Wire:
    """Counts what the calls of torch.distributed bring to this process, by a ring, while it is entered.

    Of what is gathered that are the parts of the others; of what is summed, twice (W - 1) / W of its size.
    """

    def __init__(self) -> None:
        self.received = 0.0

    def __enter__(self) -> Wire:
        calls: Any = dist
        self._all_gather, self._all_reduce = calls.all_gather, calls.all_reduce

        def all_gather(parts: Sequence[Tensor], mine: Tensor, *args: Any) -> Any:
            self.received += (len(parts) - 1) * mine.numel() * mine.element_size()
            return self._all_gather(parts, mine, *args)

        def all_reduce(tensor: Tensor, *args: Any) -> Any:
            self.received += 2 * (1 - 1 / dist.get_world_size()) * tensor.numel() * tensor.element_size()
            return self._all_reduce(tensor, *args)

        calls.all_gather, calls.all_reduce = all_gather, all_reduce
        return self

    def __exit__(self, *exception: object) -> None:
        calls: Any = dist
        calls.all_gather, calls.all_reduce = self._all_gather, self._all_reduce


def worker(text: str, folder: str) -> None:
    """Measure as one of the processes that torchrun has started, and write the figures to `folder`."""
    asked = json.loads(text)
    keep_freed_memory()  # as train.py
    work = Work(**asked["work"] | {"sizes": Sizes(**asked["work"]["sizes"])})
    if work.processes > 1:
        dist.init_process_group("gloo")
    figures = measure_here(work, asked["repeats"])
    np.savez(Path(folder) / f"{ranks.rank()}.npz", *figures.pop("arrays"))
    (Path(folder) / f"{ranks.rank()}.json").write_text(json.dumps(figures), encoding="utf-8")
    if work.processes > 1:
        dist.destroy_process_group()


# --- from outside ----------------------------------------------------------------------------------------


def measure(work: Work, repeats: int) -> Figures:
    """Measure a step in processes of its own.

    Raises
    ------
    RuntimeError
        Where one of them fails.
    """
    asked = {"work": work._asdict() | {"sizes": work.sizes._asdict()}, "repeats": repeats}
    start = [sys.executable, "-m", *"torch.distributed.run --standalone --nproc-per-node".split(), str(work.processes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(work.threads)}
    with tempfile.TemporaryDirectory() as folder:
        command = [*start, "-m", "benchmarks.scale.processes", json.dumps(asked), folder]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{work.processes} processes failed:\n{ended.stderr.partition('Traceback')[2][:2000]}")
        figures = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
        with np.load(Path(folder) / "0.npz") as file:
            arrays = list(file.values())
    slowest = median(map(max, zip(*(figure["seconds"] for figure in figures), strict=True)))
    return Figures(slowest, max(f["peak"] for f in figures), max(f["received"] for f in figures), arrays)


def in_turns(works: Sequence[Work], repeats: int) -> list[Figures]:
    """Measure several, one after the other, `repeats` times."""
    rounds = [[measure(work, 1) for work in works] for _ in range(repeats)]
    return [turns[0]._replace(seconds=median(turn.seconds for turn in turns)) for turns in zip(*rounds, strict=True)]


def difference(figures: Figures, reference: Figures) -> float:
    """Return the largest difference of what both computed, relative to the largest entry of its array."""
    pairs = zip(figures.arrays, reference.arrays, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def row(name: str, ratio: str, figures: Figures, reference: Figures | None = None) -> dict[str, Any]:
    """Put what was measured of a step into a row; the difference is from what `reference` computed."""
    return {
        "name": name, "ratio": ratio, "seconds": figures.seconds, "peak": figures.peak, "received": figures.received,
        "difference": difference(figures, reference) if reference else None,
    }  # fmt: skip


def processes_rows(sizes: Sizes, repeats: int) -> list[dict[str, Any]]:
    """Compare 1 and 2 processes: the same work, and twice the classes."""
    twice = sizes._replace(classes=2 * sizes.classes)
    one, threads, two, two_twice, one_twice = in_turns([
        Work(sizes), Work(sizes, threads=2), Work(sizes, processes=2), Work(twice, processes=2), Work(twice),
    ], repeats)  # fmt: skip
    title = f"C = {sizes.classes}"
    return [
        row(f"1 process, {title}", "", one),
        row(f"1 process with 2 threads, {title}", f"{one.seconds / threads.seconds:.2f} x", threads, one),
        row(f"2 processes, {title}", f"{one.seconds / two.seconds:.2f} x (strong scaling)", two, one),
        row(f"2 processes, C = {twice.classes}", f"{one.seconds / two_twice.seconds:.2f} x (weak scaling)", two_twice,
            one_twice),
    ]  # fmt: skip


def classes_rows(sizes: Sizes, repeats: int) -> Iterator[dict[str, Any]]:
    """Compare a step on all classes with one in chunks, and one on a sample of them."""
    whole, chunks, sample = in_turns([Work(sizes), Work(sizes, chunk=CHUNK), Work(sizes, sample=SAMPLE)], repeats)
    title = f"C = {sizes.classes:,}"
    yield row(f"all classes, {title}", "", whole)
    yield row(f"in chunks of {CHUNK}, {title}", f"{whole.seconds / chunks.seconds:.2f} x", chunks, whole)
    if sizes.classes > SAMPLE:
        ratio = f"{whole.seconds / sample.seconds:.1f} x, {whole.peak / sample.peak:.1f} x less memory"
        yield row(f"CLASS_SAMPLE {SAMPLE}, {title}", ratio, sample)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of some rows."""
    from tabulate import tabulate

    cells = []
    for figures in rows:
        largest = "" if figures["difference"] is None else f"{figures['difference']:.1e}"
        cells.append([figures["name"], f"{figures['seconds']:.3f}", figures["ratio"], f"{figures['peak'] / 1e6:,.0f}",
                      f"{figures['received'] / 1e6:,.2f}", largest])  # fmt: skip
    headers = ["step", "s", "faster", "MB a process", "MB received", "largest difference"]
    return str(tabulate(cells, headers=headers, disable_numparse=True))


def report(sizes: Sizes, many: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Measure everything of the subject, print it, and return the rows."""
    rows = processes_rows(sizes, repeats)
    print(f"{sizes.backbone}, batch {sizes.batch}; of the classes: towers of width {TINY_SIZES['transformer_width']} "
          "with two layers; every process has one thread, or as it says")
    print(table(rows))
    of_classes = [entry for classes in many
                  for entry in classes_rows(Sizes(TINY, classes, sizes.prompts, sizes.context, 32), repeats)]
    print(table(of_classes))
    return rows + of_classes


if __name__ == "__main__":
    worker(*sys.argv[1:])
