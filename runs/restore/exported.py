"""A classifier in one small file, without its run and without the frozen CLIP: safetensors, so reading it runs no code.

Tensors: what was learned, under <registered model>.<entry>; and of the frozen CLIP as much as tells it from others:
frozen.start_of_text (E,), a row of its token embedding, and frozen.logit_scale ().
Metadata: `sha256`, of everything else, since neither safetensors nor most disks notice a turned bit; and
`prompt_classifier`, a JSON object with

    version     of this layout
    classnames  by label
    config      {"TRAINER.NAME": "PLOT", "INPUT.SIZE": [224, 224], ...}: trainer, backbone, size and statistics of the
                pixels, prompts, schedule; its only path is the backbone's, if that was one
    method      what the method declares about itself
    result      accuracy of the run, on what, with how many shots and which seed
"""
from __future__ import annotations

import hashlib
import json
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_atomic
from ..keys import differences, effective, flatten
from ..record import Declared
from .hub import fetch_export, is_on_hub
from .source import REMEDY, PredictError, Source, kept_settings

if TYPE_CHECKING:
    from torch import Tensor
    from yacs.config import CfgNode

    from .rebuilding import Rebuilt

MARK, DIGEST, VERSION = "prompt_classifier", "sha256", 1
RESULT = ("dataset", "split", "shots", "draw", "seed", "accuracy", "total", "protocol", "finished")


@dataclass(frozen=True)
class ExportedFile(Source):
    """A file that `write` has written."""

    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> ExportedFile:
        """Read what the file says of itself, not yet its tensors.

        Raises
        ------
        PredictError
            For any other file, and for one that is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise PredictError(f"{path} is no safetensors file ({error}); {REMEDY}") from error
        text = metadata.get(MARK)
        if text is None:
            raise PredictError(f"{path} holds tensors, but no exported classifier; {REMEDY}")
        if metadata.get(DIGEST) != _digest(path.read_bytes()):
            raise PredictError(
                f"{path} is damaged: its SHA-256 is not the one that it was written with; get it or export it again"
            )
        try:
            about = json.loads(text)
            if about["version"] != VERSION:
                raise PredictError(
                    f"{path} has version {about['version']} of the layout, and this program reads {VERSION}; use the "
                    "program that wrote it, or export the run again"
                )
            config, names = kept_settings(about["config"]), tuple(map(str, about["classnames"]))
            return cls(path, config, dict(about["result"]), Declared.from_record(about.get("method") or {}), names)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PredictError(f"{path} has damaged metadata ({error!r}); export the run again") from error

    def classnames(self) -> Sequence[str]:
        """Return the classes by label."""
        return self.names

    def check_test(self, cfg: CfgNode) -> None:
        """Check that a run that is configured otherwise, by a command line, can test what the file holds.

        Raises
        ------
        PredictError
            Where its trainer is another.
        """
        if self.trainer != cfg.TRAINER.NAME:
            raise PredictError(
                f"--model-dir: {self.path} was learned by {self.trainer}, and the trainer here is {cfg.TRAINER.NAME}; "
                f"say --trainer {self.trainer}, with one of its configs (configs/trainers/{self.trainer})"
            )

    def restore_for_test(self, trainer: Any) -> None:
        """Give the trainer of an evaluation what the file holds; settings that differ are named.

        Raises
        ------
        ValueError
            Where it does not fit: another CLIP, or, for what was learned class by class, other classes.
        """
        names = list(map(str, trainer.dm.dataset.classnames))
        if self.class_specific and names != list(self.names):
            raise ValueError(
                f"{self.path} learned something for each of its {len(self.names)} classes, and the {len(names)} "
                "classes of this data set are not the same; test it on those, or take one whose prompts serve any"
            )
        settings = effective(flatten(trainer.cfg))
        learned = {key: value for key, value in flatten(self.config).items() if key.startswith(("TRAINER.", "INPUT."))}
        if changes := differences(learned, settings):
            print(f"Note: this test is set up otherwise than the run that made {self.path}: {changes}")
        self.restore(trainer)
        print(f'Loading what was learned from "{self.path}"')
        trainer.loaded_checkpoint = str(self.path)

    def restore(self, trainer: Any) -> None:
        """Check that the trainer has the CLIP that the file was learned with, and load what was learned."""
        from safetensors.torch import load_file

        from dassl.engine.inference import load_learned_state

        tensors = load_file(self.path)
        check_backbone(tensors, frozen_facts(trainer), self.path, trainer.cfg.MODEL.BACKBONE.NAME)
        load_learned_state(trainer, {key: t for key, t in tensors.items() if not key.startswith("frozen.")}, self.path)


def exported_at(name: str) -> ExportedFile | None:
    """Read the exported file that a path, or a name of the hub, stands for; None for a run's folder or checkpoint.

    Raises
    ------
    PredictError
        For a file that is none, and for one that cannot be had from the hub.
    """
    if is_on_hub(name):
        return ExportedFile.read(fetch_export(name))
    # of a checkpoint of a run the engine says which folder was meant; the trainer reads one of GalLoP's authors
    is_checkpoint = ".pth.tar" in Path(name).name or name.endswith(".ckpt")
    return ExportedFile.read(Path(name)) if Path(name).is_file() and not is_checkpoint else None


def write(classifier: Rebuilt, target: Path) -> Path:
    """Write the classifier of a run to a file.

    Parameters
    ----------
    classifier
        What `rebuild` returned.  Entries that are the same in every trainer of its kind are left out.
    target
        The file.

    Raises
    ------
    ResultsError
        Where it cannot be written.
    """
    from dassl.engine.inference import learned_state
    from trainers.parts.checkpoints import FIXED

    source, trainer = classifier.source, classifier.trainer
    learned = {key: t for key, t in learned_state(trainer).items() if not key.endswith(FIXED)}
    tensors = {key: t.detach().cpu().contiguous() for key, t in (learned | frozen_facts(trainer)).items()}
    about = {
        "version": VERSION,
        "classnames": classifier.classes,
        "config": kept_settings(source.config),
        "method": source.method._asdict(),
        "result": {key: source.result[key] for key in RESULT if source.result.get(key) is not None},
    }
    content = sealed(tensors, about)
    return write_atomic(target, lambda file: file.write(content))


def sealed(tensors: dict[str, Tensor], about: dict[str, Any]) -> bytes:
    """Return the content of a file of `tensors` and metadata `about`, with the digest of both in it."""
    from safetensors.torch import save

    metadata = {MARK: json.dumps(about)}
    return save(tensors, metadata | {DIGEST: _digest(save(tensors, metadata))})


def _digest(content: bytes) -> str:
    """Return the SHA-256 (hex) of a safetensors file, but for the digest in it.

    Such a file is the length of its header (8 bytes, little-endian), the header as JSON, and the numbers.
    """
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].pop(DIGEST, None)
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + content[8 + length :]).hexdigest()


def frozen_facts(trainer: Any) -> dict[str, Tensor]:
    """Return what tells a trainer's CLIP from others: one row of its token embedding (E,), and its logit scale ()."""
    from dassl.utils.logger import quiet
    from trainers.parts.backbone import load_backbone

    if not hasattr(trainer, "precision"):  # a plugin's, built on no CLIP of ours
        return {}
    with quiet():
        model = load_backbone(trainer.cfg, trainer.precision, trainer.device)  # the very object that the trainer has
    start = model.token_embedding.weight[int(model.tokens("")[0, 0])]
    return {"frozen.start_of_text": start, "frozen.logit_scale": model.logit_scale}


def check_backbone(theirs: dict[str, Tensor], ours: dict[str, Tensor], path: Path, name: str) -> None:
    """Compare the CLIP that a file was learned with to the one at hand; both as `frozen_facts` returns them.

    Weights that differ by no more than rounding (of half precision) count as equal; others only warn.

    Raises
    ------
    ValueError
        Where a size differs.
    """
    from trainers.parts.checkpoints import PRECISION

    complaint = f"{path} was learned with another CLIP than the weights of {name}; give the right ones with --backbone"
    if any(key not in theirs or theirs[key].shape != value.shape for key, value in ours.items()):
        raise ValueError(complaint)
    if not all(theirs[key].allclose(value.cpu(), PRECISION, 1e-4) for key, value in ours.items()):
        warnings.warn(f"{complaint}, or the predictions will mean nothing", stacklevel=2)
