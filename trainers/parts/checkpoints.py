"""Find the learned prompts in a checkpoint, and make sure that they are this run's to use.

Two layouts are read: the prompt learner alone, which is what is written, and the whole model around it, as the authors
of PLOT++ published theirs.  Of a whole model only what was learned is taken; the rest must be the frozen CLIP of this
run, since prompts mean nothing to another one.
"""
from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from clip.model import VisionTransformer

from .model import PromptModel
from .prompts import ContextLearner

FIXED = ("token_prefix", "token_suffix", "n_places", "class_tokens")  # of the classes it was made for
CHILD = "prompt_learner."
PARTS = ("image_encoder.", "text_encoder.", "logit_scale")  # the other children of a PromptModel
BEST = "model-best.pth.tar"
PRECISION = 1e-2  # relative; coarser than bf16, in which the frozen weights may be here


def checkpoint_path(folder: Path, epoch: int | None) -> Path:
    """Find a checkpoint in a folder.

    Parameters
    ----------
    folder
        A run's folder of one registered model.
    epoch
        Its number; None for the best, or else the last.

    Raises
    ------
    FileNotFoundError
        Naming what the folder holds instead.
    """
    if epoch is not None:
        path = folder / f"model.pth.tar-{epoch}"
    else:
        path = folder / BEST
        saved = [file for file in folder.glob("model.pth.tar-*") if file.name.rpartition("-")[2].isdigit()]
        if not path.exists() and saved:
            path = max(saved, key=lambda file: int(file.name.rpartition("-")[2]))
    if not path.exists():
        present = ", ".join(sorted(file.name for file in folder.glob("model*"))) or "no checkpoint"
        raise FileNotFoundError(f"no checkpoint {path}; {folder} holds {present}{_run_around(folder.parent)}")
    return path


def _run_around(path: Path) -> str:
    """Suggest the run's folder, where that of its prompts, or a checkpoint in it, was given."""
    inner = path.parent if path.is_file() else path
    return f"; did you mean {inner.parent}?" if any(inner.glob("model*.pth.tar*")) else ""


def state_of(checkpoint: Any) -> dict[str, Tensor]:
    """Take the state dict out of a checkpoint.

    Parameters
    ----------
    checkpoint
        A dict with the entry `state_dict`, or a bare state dict.

    Returns
    -------
    dict
        Names without the `module.` of a parallel wrapper.  Empty for a file that holds anything else.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        return {}
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def find_learned(state_dict: dict[str, Tensor], model: PromptModel, path: Path) -> dict[str, Tensor]:
    """Pick what `model.prompt_learner` learns out of a prompt learner's state dict, or a whole model's.

    Parameters
    ----------
    state_dict
        As read; see the head of this module for the two layouts.
    model
        The one that it is for.
    path
        The file, for messages.

    Returns
    -------
    dict
        To be loaded strictly into the prompt learner.

    Raises
    ------
    ValueError
        Saying what the file holds and what is needed, unless exactly what is learned is there in the right shapes, and
        everything else can be ignored.
    """
    learner = model.prompt_learner
    first, *others = dict(learner.named_parameters())
    prefix = next((prefix for prefix in ("", CHILD) if prefix + first in state_dict), None)
    if prefix is None:
        keys = ", ".join(list(state_dict)[:4]) or "nothing"
        raise ValueError(
            f"{path} holds no learned context `{first}` (it holds {keys}, ...); it is no checkpoint of prompts, which "
            f"have {', '.join([first, *others])}"
        )
    own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    own = learner.of_own_classes(own, path)
    learned = {key: value for key, value in own.items() if key not in learner.fixed}
    check_learned(learned, learner, path)
    check_classes(own, learner, path)
    check_start(own, learner, path)
    check_frozen({key: value for key, value in state_dict.items() if not key.startswith(prefix)}, model, path)
    return learned


def check_learned(learned: dict[str, Tensor], learner: ContextLearner, path: Path) -> None:
    """Check that entries are those that a prompt learner learns, in the same shapes, and finite.

    Raises
    ------
    ValueError
        Where they are of another method or backbone, of other sizes, or of a training that diverged.
    """
    expected = dict(learner.named_parameters())
    if learned.keys() != expected.keys():
        present, needed = ", ".join(learned), ", ".join(expected)
        raise ValueError(
            f"{path} holds {present}, but this trainer learns {needed}: it is of another method or backbone"
        )
    for key, value in learned.items():
        if value.shape != expected[key].shape:
            axes = f" ({learner.layout})" if key == "ctx" else ""
            raise ValueError(
                f"{path} holds `{key}` of shape {tuple(value.shape)}, this run needs "
                f"{tuple(expected[key].shape)}{axes}; set the same {learner.shaped_by} and backbone as the run that "
                "wrote it"
            )
        if not value.isfinite().all():
            raise ValueError(f"{path} holds NaN or infinite numbers in `{key}`: its training diverged; train it again")


def check_classes(own: dict[str, Tensor], learner: ContextLearner, path: Path) -> None:
    """Refuse contexts of single classes that were learned for other classes than this run has.

    With as many classes their shapes agree, so what stands behind the contexts is compared.
    """
    name = learner.fixed[-1]
    theirs = own.get(name)
    if not getattr(learner, "class_specific", False) or theirs is None:
        return
    ours = getattr(learner, name)
    if len(theirs) == len(ours) and not _same(theirs, ours):
        raise ValueError(
            f"{path} holds a context for each of {learner.n_classes} classes, but not of this run's classes in this "
            "order; class-specific contexts (CSC) serve no others, and no other backbone"
        )


def check_start(own: dict[str, Tensor], learner: ContextLearner, path: Path) -> None:
    """Warn where the file's prompts begin otherwise: every CLIP embeds the start token in its own way.

    Where a tokenizer has no start token, the last token of a row, its padding, is compared.
    """
    name, which, token = ("token_prefix", slice(0, 1), "start token")
    if not learner.wordings()[0].start:
        name, which, token = ("token_suffix", slice(-1, None), "padding")
    theirs, ours = own.get(name), getattr(learner, name)
    if theirs is not None and not _same(theirs[:1, which], ours[:1, which]):
        warnings.warn(
            f"{path} holds prompts that were learned with another CLIP: their {token} is not that of this run's "
            "backbone; set MODEL.BACKBONE.NAME to the one that it was trained with, or its accuracy will mean nothing",
            stacklevel=2,
        )


def check_words(state_dict: dict[str, Tensor], learner: ContextLearner, path: Path) -> None:
    """Refuse prompts that were learned for other classes, or with another token table, than those of `learner`.

    A file without its fixed tokens cannot be told.
    """
    theirs = next((state_dict[key] for key in (CHILD + "token_suffix", "token_suffix") if key in state_dict), None)
    if theirs is not None and not _same(theirs, learner.token_suffix):
        raise ValueError(
            f"{path} holds prompts that were learned for other classes than the {learner.n_classes} of this run, or "
            "with another backbone; give a run of the same data set, SUBSAMPLE_CLASSES and MODEL.BACKBONE.NAME"
        )


def check_frozen(entries: dict[str, Tensor], model: PromptModel, path: Path) -> None:
    """Compare the rest of a whole model's entries with the frozen CLIP of `model`.

    A ResNet's tower is folded into another form when it is loaded, so its entries are not compared.

    Raises
    ------
    ValueError
        For entries of no part of a prompt model, or of another size; other weights of the same size are a warning.
    """
    # the authors ran ImageNet's text encoder in a wrapper
    entries = {key.replace("text_encoder.module.", "text_encoder.", 1): value for key, value in entries.items()}
    strange = [key for key in entries if not key.startswith(PARTS)]
    if strange:
        raise ValueError(
            f"{path} holds {', '.join(strange[:4])}{', ...' * (len(strange) > 4)} besides the parts of a prompt model "
            "(prompt_learner, image_encoder, text_encoder, logit_scale): it is of another method"
        )
    ours = model.state_dict()
    if not isinstance(model.image_encoder, VisionTransformer):
        entries = {key: value for key, value in entries.items() if not key.startswith("image_encoder.")}
    others = [key for key, value in entries.items() if key not in ours or value.shape != ours[key].shape]
    different = [key for key, value in entries.items() if key not in others and not _same(value, ours[key])]
    complaint = (
        f"{path} holds prompts that were learned with another CLIP: its {', '.join((others or different)[:3])} not as "
        "in this run's backbone; set MODEL.BACKBONE.NAME to the one that it was trained with"
    )
    if others:
        raise ValueError(complaint)
    if different:
        warnings.warn(f"{complaint}, or its accuracy will mean nothing", stacklevel=2)


def check_fixed_words(state_dict: dict[str, Tensor], learner: ContextLearner, remedy: str, path: Path) -> None:
    """Refuse prompts that were learned before other words than this run puts behind the context.

    Only some of them differing tells of other words; that all differ is what other classes look like.

    Parameters
    ----------
    state_dict, path
        As read, and where from.
    learner
        The prompts of this run.
    remedy
        What the message recommends.
    """
    theirs = next((state_dict[key] for key in (CHILD + "token_suffix", "token_suffix") if key in state_dict), None)
    first = 1 + learner.n_context
    ours = learner.fixed_embeddings(first, first + 8)  # names rarely agree for longer
    if theirs is None or len(theirs) != len(ours):
        return
    by_prompt = (learner.n_prompts, learner.n_classes)
    pairs = zip(theirs[:, :8].unflatten(0, by_prompt), ours.unflatten(0, by_prompt), strict=True)
    equal = [_same(their, our) for their, our in pairs]
    if any(equal) and not all(equal):
        different = ", ".join(str(n + 1) for n, same in enumerate(equal) if not same)
        raise ValueError(f"{path}: prompt {different} was learned before other words than it has here; {remedy}")


def _same(theirs: Tensor, ours: Tensor) -> bool:
    """Whether two tensors are equal up to number formats."""
    if theirs.shape != ours.shape:
        return False
    ours = ours.detach().float().to(theirs.device)
    return bool(((theirs.float() - ours).abs() <= PRECISION * ours.abs() + 1e-4).all())
