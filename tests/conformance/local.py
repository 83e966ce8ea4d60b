"""Cases of GalLoP and SOT-GLP: one forward and backward pass, and training trajectories."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clip.prompt_text import encode_full
from results.inspection.ood_scores import ood_scores
from trainers.local.dropout import draw_prompts
from trainers.local.model import GlobalLocalModel
from trainers.local.prompts import GlobalLocalLearner
from trainers.parts.local_projection import place_width
from trainers.parts.model import encode_images
from trainers.plot.selection import select_places
from trainers.plot.transport import Transport, similarities

from .compare import EXACT, Comparison, compare
from .models import SATURATED, images_and_labels, tiny_clip

Arrays = dict[str, np.ndarray]

METHODS: dict[str, dict[str, Any]] = {  # as the originals have them; the golden cases are of no others
    "GalLoP": {"dense": "content", "every_prompt": True, "divided": False},
    "SOT-GLP": {"dense": "vv", "every_prompt": False, "divided": True},
}
ENTRIES = {"global_prompt": "global_prompt", "local_prompts": "local_prompts", "local_proj": "local_proj.linear.weight"}


def transport_of(meta: dict) -> Transport:
    if meta["method"] == "GalLoP":
        return Transport(matching="uniform", top_k=tuple(meta["topk"]), select_by="prompt")
    solver = {"epsilon": "eps", "max_iterations": "max_iter", "threshold": "thresh"}
    settings = {name: meta[key] for name, key in solver.items() if key in meta}
    return Transport(top_k=(max(meta["topk"]),), **settings)  # the original looks at its largest number only


def learner_of(meta: dict, arrays: Arrays, clip_model: torch.nn.Module, seed: int | None = None) -> GlobalLocalLearner:
    specific = meta["method"] == "SOT-GLP"
    return GlobalLocalLearner(
        meta["classnames"],
        clip_model,
        meta["n_global_prompts"],
        meta["n_local_prompts"] if meta.get("learn_local_prompts", True) else 0,
        class_specific=specific,
        local_start="xavier" if specific else "global",
        place_width=place_width(clip_model.visual),
        clean_names=False,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def load(learner: GlobalLocalLearner, arrays: Arrays, prefix: str = "") -> None:
    state = {ours: arrays[prefix + theirs] for theirs, ours in ENTRIES.items() if prefix + theirs in arrays}
    learner.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})


def check_local(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    clip_model = tiny_clip(meta["model"], case)
    images, labels = images_and_labels(meta, case)
    learner = learner_of(meta, arrays, clip_model, meta.get("init_seed"))
    names = torch.from_numpy(arrays["tokenized_classnames"])
    ours = learner.class_tokens
    yield compare("tokenized_classnames", ours, names[:, : ours.shape[1]], EXACT)
    if meta.get("init_seed") is not None or case.stem.endswith("_init"):
        for theirs, entry in ENTRIES.items():
            if theirs in arrays:
                yield compare(f"{theirs} (initial)", learner.state_dict()[entry], arrays[theirs], EXACT)
    load(learner, arrays)

    method = METHODS[meta["method"]]
    dropout = meta["global_dropout_p"]
    model = GlobalLocalModel(learner, clip_model, transport_of(meta), dropout=dropout, **method)
    yield from check_features(model, images, arrays)
    yield from check_matching(model, images, arrays, meta)
    yield from check_losses(model, images, labels, arrays, meta)


def check_features(model: GlobalLocalModel, images: torch.Tensor, arrays: Arrays) -> Iterator[Comparison]:
    """Both sides: images before and after the map of the places, prompts by the fast path and over all positions."""
    learner, n_global = model.prompt_learner, model.prompt_learner.n_global
    image = model.encode(images)
    yield compare("image_features_raw", image.pooled, arrays["image_features_raw"])
    yield compare("local_features_pre", image.local, arrays["local_features_pre"])
    plain = encode_images(model.image_encoder, images, model.dense).local  # without the map
    mapped = learner.local_proj.linear.weight.detach().equal(torch.eye(image.local.shape[-1]))
    if mapped:
        yield compare("local_features_raw (projected at once)", plain, arrays["local_features_raw"])
    with torch.no_grad():
        yield compare("local_features_raw", model.places(image), arrays["local_features_raw"])
        fast = model.encode_prompts()
        full = encode_full(model.text_encoder, learner.full_prompts(), learner.ends()).unflatten(0, fast.shape[:2])
    for name, text in (("", fast), (" (77 tokens)", full)):
        yield compare(f"text_features_raw{name}", text[:n_global].transpose(0, 1), arrays["text_features_raw"])
        if learner.n_local:
            local = text[n_global:].transpose(0, 1)
            yield compare(f"local_text_features_raw{name}", local, arrays["local_text_features_raw"])


def check_matching(
    model: GlobalLocalModel, images: torch.Tensor, arrays: Arrays, meta: dict
) -> Iterator[Comparison]:
    with torch.no_grad():
        image = model.encode(images)
        places, whole, local = model.sets(image)
        similarity = similarities(places, local)  # (N, C, B, M)
        yield compare("sim_global", model.whole(image, whole), arrays["sim_global"])
        yield compare("sim_local", similarity.permute(2, 3, 1, 0), arrays["sim_local"])
        index = select_places(similarity, model.transport.top_k, model.transport.select_by).chosen
        order = (2, 3, 1, 0) if index.dim() == 4 else (1, 2, 0)
        yield compare("topk_indices", index.permute(*order), arrays["topk_indices"], EXACT)

        match = model.transport(places, local)
        if "T" in arrays:
            rows = index.permute(1, 0, 2)[..., None].expand(-1, -1, -1, len(local))  # (B, C, K, N)
            yield compare("T", match.plan.gather(2, rows).flatten(0, 1), arrays["T"])
            yield compare("sinkhorn_iterations", match.iterations.max(), meta["sinkhorn_iterations"], EXACT)
        branches = model.branches(image)
        scores = branches.local if model.every_prompt else model.local_score(match.score)
        yield compare("local_logits", scores, arrays["local_logits"])

        for name in ("mean", "global", "local"):
            model.fusion = name
            suffix = "" if name == "mean" else f"_{name}"
            recorded = arrays[f"probs{suffix}"]
            yield compare(f"probs{suffix}", model(images).softmax(dim=1), recorded)
            yield compare(f"probs{suffix} (explained)", model.explain(images).logits.softmax(dim=1), recorded)
        model.fusion = "mean"
        for name, recorded in arrays.items():
            if name.startswith("ood_"):  # ood_l_mcm at temperature 1, ood_l_mcm_T1000 at 1000
                score, _, temperature = name.removeprefix("ood_").partition("_T")
                scores = ood_scores(model.class_cosines(image), float(temperature or 1))
                yield compare(name, scores[score.upper().replace("_", "-")], recorded)


def check_losses(
    model: GlobalLocalModel, images: torch.Tensor, labels: torch.Tensor, arrays: Arrays, meta: dict
) -> Iterator[Comparison]:
    prompts, dropout = meta["n_global_prompts"], meta["global_dropout_p"]
    torch.manual_seed(meta["dropout_seed"])
    yield compare("dropout_index", draw_prompts(len(images), prompts, dropout), arrays["dropout_index"], EXACT)
    torch.manual_seed(meta["dropout_seed"])
    whole, local = model.losses(model.branches(model.encode(images)), labels)
    loss = whole + local
    loss.backward()
    for name, value in (("loss", loss), ("loss_global", whole), ("loss_local", local)):
        yield compare(name, value, arrays[name], least=SATURATED)
    gradients = {name: parameter.grad for name, parameter in model.prompt_learner.named_parameters()}
    for theirs, entry in ENTRIES.items():
        if f"grad.{theirs}" in arrays:
            yield compare(f"grad.{theirs}", gradients[entry], arrays[f"grad.{theirs}"], least=SATURATED)


def local_settings(meta: dict, arrays: Arrays) -> dict[str, Any]:
    """Keys of a training case, below the trainer's node."""
    return {
        "N_GLOBAL": meta["n_global_prompts"],
        "N_LOCAL": meta["n_local_prompts"],
        "TOPK": tuple(meta["topk"]) if meta["method"] == "GalLoP" else (max(meta["topk"]),),
        "DROPOUT": meta["global_dropout_p"],
        "DENSE": METHODS[meta["method"]]["dense"],
        "RAW_NAMES": True,
    }


def recorded_local_trainer(base: type, meta: dict) -> type:
    """`base`, which begins its dropout where the case does, and keeps the losses and accuracies of both branches."""

    class Recorded(base):  # type: ignore[valid-type, misc]
        def before_train(self) -> None:
            super().before_train()
            self.branch_losses: list[list[float]] = []
            self.accuracies: list[list[float]] = []
            torch.manual_seed(meta["dropout_seed"])

        def training_loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            before = torch.get_rng_state()
            with torch.no_grad():
                branches = self.model.branches(self.model.encode(images))
                self.branch_losses.append([loss.item() for loss in self.model.losses(branches, labels)])
            torch.set_rng_state(before)
            correct = []
            for fusion in ("mean", "global", "local"):
                self.model.fusion = fusion
                logits = self.model.logits(branches.whole.mean(dim=2), branches.local.mean(dim=2))
                correct.append(100 * (logits.argmax(dim=1) == labels).float().mean().item())
            self.model.fusion = "mean"
            self.accuracies.append(correct)
            return super().training_loss(images, labels)

    return Recorded


def check_branches(trainer: Any, arrays: Arrays, meta: dict, tolerance: float) -> Iterator[Comparison]:
    losses = np.array(trainer.branch_losses)
    for column, name in enumerate(("loss_global", "loss_local")):
        if name in arrays:
            yield compare(name, losses[:, column], arrays[name], tolerance)
    by_epoch = np.array(trainer.accuracies).reshape(meta["epochs"], meta["batches_per_epoch"], 3).mean(axis=1)
    yield compare("acc_after_epoch", by_epoch, arrays["acc_after_epoch"], 1e-6)
