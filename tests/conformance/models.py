"""Cases of one forward and backward pass: PLOT, CoOp, zero-shot; and the Sinkhorn iteration alone."""
from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

import clip
import datasets  # noqa: F401  (registers the data sets, which say what their prompts are)
from clip.model import build_model
from clip.prompt_text import encode_full
from tests.support.golden_data import GOLDEN, read_npz, tiny_state_dict
from trainers.cocoop import CoCoOpModel, ConditionalPromptLearner
from trainers.coop import CoOpModel
from trainers.parts.hand_written import ZeroShotModel, class_features
from trainers.parts.prompts import PromptLearner
from trainers.plot.model import PlotModel
from trainers.plot.options import PlotOptions
from trainers.plot.sinkhorn import sinkhorn
from trainers.plot.transport import Transport
from trainers.plotpp.model import PlotPPModel
from trainers.plotpp.prompts import TextStart, TwoSidedPromptLearner, start_from_templates, templates_of
from trainers.zsclip import ZeroshotCLIP, ZeroshotCLIP2

from .compare import EXACT, Comparison, compare, same

Arrays = dict[str, np.ndarray]

# With a probability of nearly 1, loss and gradient are what float32 leaves of 1 - p, which it resolves to 6e-8.
SATURATED = 1e-2


def find(relative: str, case: Path) -> Path:
    """A file that a case names: beside the case, in a folder above it, or among the project's own."""
    for folder in (*case.resolve().parents, GOLDEN, GOLDEN / "e2e"):
        if (folder / relative).exists():
            return folder / relative
    raise FileNotFoundError(f"{case} needs {relative}, which is neither above it nor in {GOLDEN}")


def tiny_clip(name: str, case: Path) -> torch.nn.Module:
    """The tiny model of a case in float32, frozen."""
    return _build(name, find(f"models/{name}.npz", case).parent)


@lru_cache(maxsize=4)
def _build(name: str, folder: Path) -> torch.nn.Module:
    return build_model(tiny_state_dict(name, folder)).float().requires_grad_(False).eval()


def images_and_labels(meta: dict, case: Path) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, _ = read_npz(find(meta["images"], case))
    return torch.from_numpy(inputs["images"]).float(), torch.from_numpy(inputs["labels"]).long()


def prompt_learner(meta: dict, arrays: Arrays, model: torch.nn.Module) -> PromptLearner:
    return PromptLearner(
        meta["classnames"],
        model,
        n_context=meta["n_ctx"],
        n_prompts=meta.get("N"),
        class_specific=meta.get("csc", False),
        init=meta.get("ctx_init", ""),
        position=meta.get("class_token_position", "end"),
    )


def check_learner(learner: PromptLearner, arrays: Arrays, meta: dict) -> Iterator[Comparison]:
    yield compare("tokenized_prompts", learner.tokenized_prompts, arrays["tokenized_prompts"], EXACT)
    if "name_lens" in arrays:
        yield compare("name_lens", learner.name_lens, arrays["name_lens"], EXACT)
    if meta.get("ctx_init"):
        yield compare("ctx (from the phrase)", learner.ctx, arrays["ctx"], EXACT)
    with torch.no_grad():
        learner.ctx.copy_(torch.from_numpy(arrays["ctx"]))
    if "prompts" in arrays:
        yield compare("prompts", learner.full_prompts(), arrays["prompts"], EXACT)


def check_text(model: CoOpModel | PlotModel, arrays: Arrays) -> Iterator[Comparison]:
    """Text features by both paths: the shared prefix, and all 77 positions."""
    learner = model.prompt_learner
    with torch.no_grad():
        fast = model.encode_prompts() if isinstance(model, PlotModel) else model.text_encoder(learner())
        fast = fast.flatten(0, 1)
        plain = encode_full(model.text_encoder, learner.full_prompts(), learner.ends())
    yield compare("text_features_raw", fast, arrays["text_features_raw"])
    yield compare("text_features_raw (77 tokens)", plain, arrays["text_features_raw"])


def check_gradient(model: torch.nn.Module, logits: torch.Tensor, labels: torch.Tensor, arrays: Arrays):
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    yield compare("loss", loss, arrays["loss"], least=SATURATED)
    for name, parameter in model.prompt_learner.named_parameters():
        if f"grad_{name}" in arrays:  # a first stage of PLOT++ has none for the text
            yield compare(f"grad_{name}", parameter.grad, arrays[f"grad_{name}"], least=SATURATED)


def check_plot(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    clip_model = tiny_clip(meta["model"], case)
    images, labels = images_and_labels(meta, case)
    learner = prompt_learner(meta, arrays, clip_model)
    yield from check_learner(learner, arrays, meta)

    model = PlotModel(learner, clip_model, transport_of(meta), PlotOptions().fuses_global(meta["dataset_name"]))
    dense = clip_model.encode_image_dense(images)
    raw = torch.cat([dense.pooled[None], dense.local.transpose(0, 1)])  # (M+1, B, D)
    yield compare("image_features_raw", raw, arrays["image_features_raw"])
    yield from check_text(model, arrays)

    yield from check_matching(model, images, labels, arrays, meta)


def check_plotpp(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    """The prompts are taken as recorded; where the project makes the same ones by itself, it is compared as well."""
    clip_model = tiny_clip(meta["model"], case)
    images, labels = images_and_labels(meta, case)
    tokens = torch.from_numpy(arrays["tokenized_prompts"]).long().unflatten(0, (meta["N"], -1))  # (N, C, 77)
    templates = templates_of(meta.get("dataset_name", ""), legacy=True)
    if meta.get("ctx_init") and len(templates) >= meta["N"]:
        ours = start_from_templates(templates, meta["N"], meta["classnames"], clip_model)
        yield compare("tokenized_prompts", ours.tokens, tokens, EXACT)
    start = TextStart(tokens, torch.from_numpy(arrays["ctx"]), ())
    vision = torch.from_numpy(arrays["ctx_vision"])
    learner = TwoSidedPromptLearner(clip_model, start, *vision.shape[:2])
    with torch.no_grad():
        learner.ctx_vision.copy_(vision)
    if "prompts" in arrays:
        yield compare("prompts", learner.full_prompts(), arrays["prompts"], EXACT)

    model = PlotPPModel(learner, clip_model, transport_of(meta), meta.get("trade_off", False))
    seen = model.encode(images).local
    yield compare("image_features_raw", seen.transpose(0, 1), arrays["image_features_raw"])
    yield from check_text(model, arrays)
    yield from check_matching(model, images, labels, arrays, meta)


def transport_of(meta: dict) -> Transport:
    given = {"epsilon": "eps", "max_iterations": "max_iter", "threshold": "thresh"}
    return Transport(**{name: meta[key] for name, key in given.items() if key in meta})


def check_matching(
    model: PlotModel, images: torch.Tensor, labels: torch.Tensor, arrays: Arrays, meta: dict
) -> Iterator[Comparison]:
    output = model.explain(images)
    match = output.match
    if "sim" in arrays:
        yield compare("sim", match.similarity.permute(2, 3, 0, 1), arrays["sim"])
    if "T" in arrays:
        yield compare("T", match.plan.flatten(0, 1), arrays["T"])
    if "sinkhorn_iterations" in meta:
        yield compare("sinkhorn_iterations", match.iterations.max(), meta["sinkhorn_iterations"], EXACT)
    yield compare("logits", output.logits, arrays["logits"])
    if "logits_ot" in arrays:
        alone = model.logit_scale.exp() * match.score
        yield compare("logits_ot", alone, arrays["logits_ot"])
        yield compare("logits_pool", output.logits - alone, arrays["logits_pool"])
    yield from check_gradient(model, output.logits, labels, arrays)


def check_coop(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    clip_model = tiny_clip(meta["model"], case)
    images, labels = images_and_labels(meta, case)
    learner = prompt_learner(meta, arrays, clip_model)
    yield from check_learner(learner, arrays, meta)
    model = CoOpModel(learner, clip_model)
    yield compare("image_features_raw", clip_model.encode_image(images), arrays["image_features_raw"])
    yield from check_text(model, arrays)
    logits = model(images)
    yield compare("logits", logits, arrays["logits"])
    yield from check_gradient(model, logits, labels, arrays)


def check_cocoop(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    clip_model = tiny_clip(meta["model"], case)
    images, labels = images_and_labels(meta, case)
    settings = {"n_context": meta["n_ctx"], "init": meta["ctx_init"]}
    learner = ConditionalPromptLearner(meta["classnames"], clip_model, **settings)
    yield from check_learner(learner, arrays, meta)
    learner.load_state_dict({key: torch.from_numpy(arrays[key]) for key in dict(learner.named_parameters())})
    model = CoCoOpModel(learner, clip_model)
    image = F.normalize(clip_model.encode_image(images), dim=-1)
    yield compare("image_features_normalized", image, arrays["image_features_normalized"])
    yield compare("meta_net_output", learner.meta_net(image), arrays["meta_net_output"])
    with torch.no_grad():
        yield compare("logits", model(images), arrays["logits"])
    yield from check_gradient(model, model(images), labels, arrays)


def check_zeroshot(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    trainer_type = {"ZeroshotCLIP": ZeroshotCLIP, "ZeroshotCLIP2": ZeroshotCLIP2}[meta["method"]]
    images, _ = images_and_labels(meta, case)
    names = [name.replace("_", " ") for name in meta["classnames"]]
    trainer = trainer_type.__new__(trainer_type)  # its text side alone, without a data set on disk
    clip_model = tiny_clip(meta["model"], case)
    for dataset in meta["datasets"]:
        trainer.cfg = SimpleNamespace(DATASET=SimpleNamespace(NAME=dataset))
        templates = trainer.choose_templates()
        yield same(f"templates.{dataset}", list(templates), meta["templates"][dataset])
        tokens = torch.stack([clip.tokenize([t.format(name) for name in names]) for t in templates])
        yield compare(f"tokens.{dataset}", tokens, arrays[f"tokens.{dataset}"], EXACT)
        text = class_features(clip_model, templates, names)
        yield compare(f"text_features.{dataset}", text, arrays[f"text_features.{dataset}"])
        yield compare(f"logits.{dataset}", ZeroShotModel(clip_model, text)(images), arrays[f"logits.{dataset}"])


def rows_first(plan: torch.Tensor) -> torch.Tensor:
    """A solver's plan (N, G, M) as recorded, (G, M, N)."""
    return plan.permute(1, 2, 0)


def check_sinkhorn(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    kernel, a, b = (torch.from_numpy(arrays[key]) for key in ("K", "u", "v"))  # (G, M, N), (G, M), (G, N)
    cost, b = -kernel.log().permute(2, 0, 1), b.t()  # the solver's layout has the columns first
    limits = {"max_iterations": meta["max_iter"], "threshold": meta["thresh"]}
    solved = sinkhorn(cost, 1.0, a, b, **limits)
    yield compare("T_float64", rows_first(solved.plan), arrays["T_float64"], 1e-9)
    yield compare("iterations_float64", solved.iterations.max(), meta["iterations_float64"], EXACT)
    single = sinkhorn(cost.float(), 1.0, a, b, max_cost=float(cost.abs().max()), **limits)
    recorded = "T_float64" if meta["nan_float32"] else "T_float32"
    note = "recorded NaN; compared with float64" if meta["nan_float32"] else ""
    yield compare("T_float32", rows_first(single.plan), arrays[recorded], note=note)
    rows, counts = meta.get("alone_rows", []), meta.get("alone_iterations_float64", [])
    for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
        alone = sinkhorn(cost[:, row : row + 1], 1.0, a[row : row + 1], b[:, row : row + 1], **limits)
        each = sinkhorn(cost, 1.0, a, b, stop="each", **limits)
        yield compare(f"T_alone_float64[{i}]", rows_first(alone.plan)[0], arrays["T_alone_float64"][i], 1e-9)
        yield compare(f"T_alone_float64[{i}] (each)", rows_first(each.plan)[row], arrays["T_alone_float64"][i], 1e-9)
        yield compare(f"alone_iterations_float64[{i}]", alone.iterations[0], count, EXACT)
    if "T_converged_float64" in arrays:
        longer = sinkhorn(cost, 1.0, a, b, max_iterations=20000, threshold=1e-12, stop="each")
        yield compare("T_converged_float64", rows_first(longer.plan), arrays["T_converged_float64"], 1e-6)


METHODS = {
    "PLOT": check_plot,
    "PLOTPP": check_plotpp,
    "CoOp": check_coop,
    "CoCoOp": check_cocoop,
    "ZeroshotCLIP": check_zeroshot,
    "ZeroshotCLIP2": check_zeroshot,
}
