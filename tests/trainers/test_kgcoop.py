"""KgCoOp: CoOp where its weight is 0, else a loss whose second term is computed here by hand."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from runs.config import request_of
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def trained(world, name: str, *options: str):
    folder = world / "-".join([name, *options]).replace("/", "")
    keys = ["OPTIM.MAX_EPOCH", "2", *options]
    record = train.run(arguments(world, folder, *keys, trainer=name))
    return record["history"], load_trainer(folder).model


def test_without_the_weight_it_is_coop_bit_for_bit(world):
    losses, model = trained(world, "KgCoOp", "TRAINER.KGCOOP.W", "0.0")
    expected, coop = trained(world, "CoOp", "TRAINER.COOP.CTX_INIT", "a photo of a")
    assert [epoch["loss"] for epoch in losses] == [epoch["loss"] for epoch in expected]
    assert torch.equal(model.prompt_learner.ctx, coop.prompt_learner.ctx)


def test_the_weight_keeps_classes_near_the_hand_written_ones(world):
    distances = [trained(world, "KgCoOp", "TRAINER.KGCOOP.W", weight)[1].distance() for weight in ("0.0", "8.0")]
    assert 0 < distances[1] < distances[0]


@pytest.mark.parametrize("weight", [0.5, 8.0])
def test_the_loss_is_cross_entropy_and_mean_distance(world, weight):
    options = ["TRAINER.KGCOOP.W", str(weight), "OPTIM.MAX_EPOCH", "1"]
    trainer = build_trainer(request_of(arguments(world, world / "built", *options, trainer="KgCoOp")).cfg)
    model, clip_model = trainer.model, trainer.clip_model
    assert_close(1 - model.distance().item(), 1.0)  # cosines: both are "a photo of a ...", at the start

    with torch.no_grad():
        model.prompt_learner.ctx.add_(torch.randn(model.prompt_learner.ctx.shape, generator=torch.Generator()))
        sentences = [f"a photo of a {name.replace('_', ' ')}." for name in trainer.dm.dataset.classnames]
        hand_written = clip_model.encode_text(clip_model.tokens(sentences))
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    text, pooled = model.encode_prompts()[0], clip_model.encode_image(images)
    cosines = F.cosine_similarity(pooled[:, None], text[None], dim=-1)  # (B, C)
    plain = F.cross_entropy(clip_model.logit_scale.exp() * cosines, labels)
    plain = plain + weight * sum(1 - F.cosine_similarity(text, hand_written, dim=-1)) / len(text)

    encodings = []
    with model.text_encoder.register_forward_hook(lambda *_: encodings.append(1)):
        loss, _ = trainer.training_loss(images, labels)
    assert len(encodings) == 1
    assert_close(loss, plain, 1e-5)
    gradients = [torch.autograd.grad(value, model.prompt_learner.ctx)[0] for value in (loss, plain)]
    assert_close(*gradients, 1e-4)
