r"""What the small CLIP for photographs is worth: the tables of docs/photos.md.

Zero-shot, a linear probe and the rank-8 reference are computed here, from image features; CoOp, PLOT and Tip-Adapter-F
are read from the runs of a sweep, which must be there:

  python scripts/sweep.py --root DATA --output RUNS --dataset caltech101 groceries --config photos --jobs 2 \
      --trainers CoOp PLOT TipAdapterF DATALOADER.TRAIN_X.VIEWS 1
  python -m benchmarks.photos --root DATA --runs RUNS

Names are "seen" where CLIP's own embedding of the name, of a synonym, or of an ImageNet class of that name was used in
making the model; "from words" where only word vectors were; "unseen" where the tower has no more than their tokens.

The rank-8 reference shows what a context could do: text features t become t (I + U V^T), with U and V of rank 8 trained
by Adam on the same shots.
"""
from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

import clip
from datasets.catalogue import declared, find_kind
from datasets.checking.check import build_quietly
from runs.record import find_runs

NAMES = Path(clip.__file__).parent / "weights" / "photos_names.tsv"
GROUPS = {"clip": "seen", "synonym": "seen", "imagenet": "seen", "words": "from words"}
SHOTS, SEEDS = (1, 4, 16), (1, 2, 3)
ALL, SHOWN = "all", ("all", "seen", "from words", "unseen")


def group_of(names: Sequence[str]) -> list[str]:
    """Say of every class whether its name was seen."""
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    source = dict(line.split("\t") for line in lines)
    return [GROUPS.get(source.get(name.replace("_", " ").lower(), ""), "unseen") for name in names]


class Features:
    """Image features of a model, of every file once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.transform = clip.clip.preprocess(
            model.visual.input_resolution, model.pixel_mean, model.pixel_std, model.interpolation
        )
        self.known: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit features (B, D), pooled and mean of the places, and labels (B,)."""
        new = list(dict.fromkeys(item.impath for item in items if item.impath not in self.known))
        for i in tqdm(range(0, len(new), 32), "Encoding images", disable=None, leave=False):
            batch = torch.stack([self.transform(Image.open(path)) for path in new[i : i + 32]])
            dense = self.model.encode_image_dense(batch).normalized()
            rows = zip(dense.pooled, F.normalize(dense.local.mean(1), dim=-1), strict=True)
            self.known |= dict(zip(new[i : i + 32], rows, strict=True))
        pooled, places = map(torch.stack, zip(*(self.known[item.impath] for item in items), strict=True))
        return pooled, places, torch.tensor([item.label for item in items])


def by_group(right: Tensor, labels: Tensor, groups: Sequence[str]) -> dict[str, float]:
    """Accuracy in percent of all images and of those of each group of classes."""
    result = {ALL: right.float().mean().item() * 100}
    for group in SHOWN[1:]:
        mine = torch.tensor([groups[label] == group for label in labels.tolist()])
        if mine.any():
            result[group] = right[mine].float().mean().item() * 100
    return result


def linear_probe(x: Tensor, y: Tensor, classes: int, strength: float = 30.0) -> Tensor:
    """Fit logistic regression on features (B, D), penalty |W|^2 / 2 `strength`; returns weights (D + 1, C)."""
    weight = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = x @ weight[:-1] + weight[-1]
        loss = F.cross_entropy(logits, y) + weight[:-1].pow(2).sum() / (2 * strength * len(x))
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return weight.detach()


def low_rank(text: Tensor, x: Tensor, y: Tensor, scale: float, seed: int, rank: int = 8, steps: int = 400) -> Tensor:
    """Train text features (C, D) by a change of low rank; the reference for contexts."""
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(text.shape[1], rank, generator=generator).mul_(0.02).requires_grad_() for _ in range(2))
    optimiser = torch.optim.Adam([u, v], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(x), (256,), generator=generator)
        changed = F.normalize(text + text @ u @ v.T, dim=1)
        loss = F.cross_entropy(scale * x[chosen] @ changed.T, y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return F.normalize(text + text @ u @ v.T, dim=1).detach()


def direct(name: str, root: str, features: Features) -> Iterable[tuple[str, int, dict[str, float]]]:
    """Measure what needs no run: method, shots (0: none), accuracies; once for every seed."""
    kind, model = find_kind(name, declared()), features.model
    for seed in SEEDS:
        for shots in SHOTS:
            data = build_quietly(kind, root, shots, seed)
            names = data.classnames
            groups = group_of(names)
            test, places, labels = features(data.test)
            if (shots, seed) == (SHOTS[0], SEEDS[0]):
                with torch.no_grad():
                    prompts = [kind.template.format(name.replace("_", " ")) for name in names]
                    text = F.normalize(model.encode_text(clip.tokenize(prompts)), dim=-1)
                for title, image in (("zero-shot, pooled", test), ("zero-shot, mean of places", places)):
                    yield title, 0, by_group((image @ text.T).argmax(1) == labels, labels, groups)
            x, _, y = features(data.train_x)
            weight = linear_probe(x, y, len(names))
            yield "linear probe", shots, by_group((test @ weight[:-1] + weight[-1]).argmax(1) == labels, labels, groups)
            changed = low_rank(text, x, y, model.logit_scale.exp().item(), seed)
            yield "rank 8", shots, by_group((test @ changed.T).argmax(1) == labels, labels, groups)


def from_runs(name: str, folder: str) -> Iterable[tuple[str, int, dict[str, float]]]:
    """Read the runs on a data set: method, shots, accuracies."""
    kind = find_kind(name, declared())
    for run in find_runs(folder):
        rows = run.record.get("per_class") if run.complete and run.dataset == kind.__name__ else None
        if not rows:
            continue
        groups = group_of([row["name"] for row in rows])
        totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row, group in zip(rows, groups, strict=True):
            for key in (ALL, group):
                totals[key][0] += row["correct"]
                totals[key][1] += row["total"]
        yield run.trainer, run.shots, {key: 100 * right / total for key, (right, total) in totals.items()}


def report(name: str, root: str, folder: str, features: Features) -> str:
    """Table of one data set: methods by shots, mean over seeds, of all classes and of each group."""
    cells: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for method, shots, accuracy in (*direct(name, root, features), *from_runs(name, folder)):
        cells[method, shots].append(accuracy)
    data = build_quietly(find_kind(name, declared()), root)
    groups = group_of(data.classnames)
    shown = [group for group in SHOWN if group == ALL or group in groups]
    rows = [
        [method, shots or "", len(found), *(f"{np.mean([x[g] for x in found]):.1f}" for g in shown),
         f"{np.std([x[ALL] for x in found]):.1f}"]
        for (method, shots), found in sorted(cells.items(), key=lambda entry: entry[0])
    ]  # fmt: skip
    counts = [f"{group} ({len(groups) if group == ALL else groups.count(group)})" for group in shown]
    title = f"{name}: {len(data.test)} test images, accuracy in %, mean over seeds"
    return f"{title}\n\n" + tabulate(rows, ["method", "shots", "runs", *counts, "std"], tablefmt="pipe") + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__, formatter_class=raw)
    parser.add_argument("--root", required=True, help="the folder that holds the data sets' folders")
    parser.add_argument("--runs", required=True, help="the folder of the sweep's runs")
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "groceries"], metavar="NAME")
    parser.add_argument("--backbone", default="photos", help="name or file of a model (default: %(default)s)")
    return parser


def main() -> None:
    """Run the command line."""
    options = build_parser().parse_args()
    features = Features(clip.load_clip_to_cpu(options.backbone).float())
    for name in options.datasets:
        print(report(name, options.root, options.runs, features), flush=True)


if __name__ == "__main__":
    main()
