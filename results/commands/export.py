"""The command that makes one small file of a run, with a card that describes it, and shares both on request."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from dassl.plain.devices import add_device_flag
from runs.files import ResultsError, to_stderr, to_stdout
from runs.restore.hub import FILE
from runs.restore.names import add_run_argument, run_of
from runs.restore.trust import add_trust_paths

from .command import argument, command


@command(
    "export",
    add_run_argument,
    argument("--out", metavar="FILE", help=f"default: RUN/{FILE}; its card, README.md, is written beside it"),
    argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved"),
    argument("--push", default="", metavar="USER/REPOSITORY", help="upload file and card to the Hugging Face hub"),
    argument("--private", action="store_true", help="with --push: a repository that is made is private"),
    argument("--revision", default="", metavar="BRANCH", help="with --push: not the default branch"),
    partial(add_device_flag, default="cpu"),
    add_trust_paths,
)
def export(args: argparse.Namespace) -> int:
    """One small file of a run, to predict with elsewhere, and a card that describes it.

    The file keeps what was learned, class
    names, settings and accuracy; not the frozen CLIP, which is loaded by its name again.
    `python -m predict FILE photos` and `predict.load("FILE")` predict with it what the run does.
    The card is for people and for the hub; one that is there is left as it is, since you may have edited it.
    --push uploads these two and nothing else, with the token in HF_TOKEN or that of `hf auth login`.

    Examples
    --------
    python -m results export RUN
    python -m results export RUN --out flowers.safetensors
    python -m predict flowers.safetensors photos
    python -m results export RUN --push me/flowers-plot --private
    python -m predict hf://me/flowers-plot photos
    """
    from runs.restore.exported import write
    from runs.restore.rebuilding import open_source, rebuild

    from ..sharing.card import card_text, needs_own_weights, write_card
    from ..sharing.push import check_push, push

    if (args.private or args.revision) and not args.push:
        raise ResultsError("--private and --revision say how to upload; they need --push USER/REPOSITORY")
    repository = check_push(args.push) if args.push else ""
    folder = run_of(args)
    if not folder.is_dir():
        raise ResultsError(f"{folder} is no folder; give the folder of a finished run")
    restored = rebuild(open_source(folder), backbone=args.backbone, device=args.device)
    path = write(restored, Path(args.out or folder / FILE))
    to_stdout(f"written: {path} ({path.stat().st_size / 1e3:,.0f} kB, {len(restored.classes)} classes)")
    plain = card_text(restored.source, restored.classes, path.name)
    text = card_text(restored.source, restored.classes, path.name, repository) if repository else plain
    card, written = write_card(path, text, earlier=[plain])
    to_stdout(f"written: {card}" if written else f"left as it was: {card} (delete it to have it written anew)")
    if repository:
        address = push(path, card, repository, args.private, args.revision)
        to_stdout(f"uploaded: {address}")
        if needs_own_weights(restored.source):
            to_stderr("note: the backbone is a file of yours, which others need too: they name theirs with --backbone")
    return 0


COMMANDS = (export,)
