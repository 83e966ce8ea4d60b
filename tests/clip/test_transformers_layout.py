"""clip/loading/transformers_layout.py: weights of transformers' CLIPModel compute what they compute there."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import clip
from clip.loading.hub import HubName, hub_name
from clip.loading.published import fetch_hub_model
from clip.loading.transformers_layout import check_config, pixels_of, section, to_openai
from clip.loading.weights import read_weights
from clip.model import PIXEL_MEAN, PIXEL_STD
from tests.support.closeness import assert_close
from tests.support.fake_hub import FakeHub, set_constants

TINY = {  # sections of config.json; every size differs from every other, so that none can be mistaken for another
    "text_config": {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 3, "intermediate_size": 256,
                    "vocab_size": 99, "max_position_embeddings": 7, "eos_token_id": 98, "hidden_act": "gelu"},
    "vision_config": {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 512,
                      "image_size": 32, "patch_size": 16, "hidden_act": "gelu"},
    "projection_dim": 24,
}  # fmt: skip
REAL = {  # ViT-B/32's tokens, places and pixels, in its config's own words of 2021
    "text_config": {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 256,
                    "eos_token_id": 2, "bos_token_id": 0},
    "vision_config": {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 512},
    "projection_dim": 48,
}  # fmt: skip
LAION = {"model_type": "clip", "text_config": {"hidden_act": "gelu"}, "vision_config": {"hidden_act": "gelu"}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, tuple]:
    """(folder, transformers' model) of random weights by the name of the config."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # of the tiny vocabulary
    logging.disable_progress_bar()
    result = {}
    for name, config in (("tiny", TINY), ("real", REAL)):
        torch.manual_seed(5)
        model = CLIPModel(CLIPConfig(**config)).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # biases and normalisations begin as 0 and 1, which hides mistakes
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        result[name] = folder, model
    return result


def inputs(name: str) -> tuple[Tensor, Tensor]:
    """(images, token ids); one text ends with the last token, one fills the whole context."""
    generator = torch.Generator().manual_seed(3)
    if name == "real":
        return torch.randn(2, 3, 224, 224, generator=generator), clip.tokenize(["a photo of a dog", "zebra"])
    tokens = torch.tensor([[97, 4, 98, 0, 0, 0, 0], [97, 9, 8, 7, 6, 5, 98]])
    return torch.randn(2, 3, 32, 32, generator=generator), tokens


def logits_of(path: Path, name: str) -> Tensor:
    model = clip.load_clip_to_cpu(path)
    with torch.no_grad():
        return model(*inputs(name))[0]


@pytest.mark.parametrize("name", ["tiny", "real"])
def test_logits_are_those_of_transformers(saved, name):
    folder, theirs = saved[name]
    images, tokens = inputs(name)
    with torch.no_grad():
        expected = theirs(pixel_values=images, input_ids=tokens).logits_per_image
    assert_close(logits_of(folder, name), expected)
    assert_close(logits_of(folder / "model.safetensors", name), expected)
    assert clip.load_clip_to_cpu(folder).activation == theirs.config.text_config.hidden_act


def test_parts_and_pickles_read_alike(saved, tmp_path):
    folder, model = saved["tiny"]
    expected = logits_of(folder, "tiny")
    model.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 5
    assert torch.equal(logits_of(tmp_path / "parts", "tiny"), expected)
    assert torch.equal(logits_of(tmp_path / "parts" / "model.safetensors.index.json", "tiny"), expected)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((folder / "config.json").read_bytes())
    old = {"text_model.embeddings.position_ids": torch.arange(7)[None]}  # as older versions saved
    torch.save(model.state_dict() | old, pickled / "pytorch_model.bin")
    assert torch.equal(logits_of(pickled, "tiny"), expected)


def test_parts_that_are_missing_are_named(saved, tmp_path):
    saved["tiny"][1].save_pretrained(tmp_path, max_shard_size="100KB")
    part = sorted(tmp_path.glob("model-*.safetensors"))[3]
    entries = load_file(part)
    save_file({"other": torch.zeros(1)}, part)
    with pytest.raises(RuntimeError, match=rf"index.json names \d+ tensors .* not hold, as {min(entries)}"):
        read_weights(tmp_path)
    part.unlink()
    with pytest.raises(RuntimeError, match=f"names {part.name}, which is not beside it"):
        read_weights(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(RuntimeError, match="it names files in other folders"):
        read_weights(tmp_path)


def test_without_its_config_the_activation_is_asked_for(saved, tmp_path):
    (tmp_path / "a.safetensors").write_bytes((saved["tiny"][0] / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"a.safetensors: .* config.json tells .* MODEL.BACKBONE.ACTIVATION"):
        read_weights(tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors", "gelu").activation == "gelu"


def test_pixels_are_normalised_as_the_preprocessor_says(saved, tmp_path):
    folder = saved["tiny"][0]
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert clip.load_clip_to_cpu(tmp_path).pixel_mean == PIXEL_MEAN
    said = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 40}, "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.2, 0.2, 0.1]}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = clip.load_clip_to_cpu(tmp_path)
    assert (model.pixel_mean, model.pixel_std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"crop_size": 48}))
    with pytest.raises(ValueError, match="makes images of size 48, and the weights read 32"):
        clip.load_clip_to_cpu(tmp_path)


def test_what_a_preprocessor_may_leave_out():
    assert pixels_of({}, 224) == {}
    assert pixels_of({"size": 224, "crop_size": 224}, 224) == {}  # files of 2021
    with pytest.raises(ValueError, match="says image_mean 0.5, and not three numbers"):
        pixels_of({"image_mean": 0.5}, 224)
    assert pixels_of({"do_normalize": False}, 224) == {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("config, activation", [
    ({}, "quick_gelu"),  # OpenAI's ViT-B/32 says nothing of it
    (LAION, "gelu"),
    ({"text_config": {"hidden_act": "gelu"}, "text_config_dict": {"vocab_size": 49408}}, "quick_gelu"),
    ({"text_config_dict": None, "vision_config": None}, "quick_gelu"),
])
def test_the_activation_is_that_of_transformers_own_config(config, activation):
    from transformers import CLIPConfig

    theirs = CLIPConfig(**config)
    assert theirs.text_config.hidden_act == theirs.vision_config.hidden_act == activation
    assert check_config(config) == activation
    for side in ("text", "vision"):
        assert section(config, side)["hidden_act"] == activation


@pytest.mark.parametrize("change, message", [
    ({"vision_config": {"hidden_size": 1280, "num_attention_heads": 16, "intermediate_size": 5120}},
     "vision heads of width 80 instead of 64"),  # LAION's ViT-H/14
    ({"vision_config": {"intermediate_size": 8192}}, "vision intermediate_size 8192 instead of 3072"),
    ({"text_config": {"layer_norm_eps": 1e-6}}, "text layer_norm_eps 1e-06 instead of 1e-05"),
    ({"text_config": {"hidden_act": "gelu"}}, "hidden_act is gelu in the text tower and quick_gelu in the image tower"),
    ({"text_config": {"hidden_act": "gelu_new"}}, "hidden_act gelu_new, which is none of quick_gelu, gelu"),
    ({"text_config": {"eos_token_id": 49406}}, "read at token 49406, and not at the last of the vocabulary, 49407"),
    ({"model_type": "siglip"}, "of type 'siglip', not 'clip'"),
    ({"text_config": ["a"]}, "holds no object where it should describe the text tower"),
    ({"vision_config": {"hidden_size": "768"}}, "says hidden_size '768' of the vision tower, which is no int"),
])
def test_what_would_be_computed_otherwise_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_config(change)


def test_a_tower_alone_is_refused(saved):
    state = saved["tiny"][1].state_dict()
    text = {name: tensor for name, tensor in state.items() if name.startswith("text_model.")}
    with pytest.raises(ValueError, match="has no vision_model: one tower alone"):
        to_openai(text)
    del state["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(ValueError, match=r"transformer.resblocks.1.attn.in_proj_bias has only .*q_proj, .*v_proj"):
        to_openai(state)


# --- from the hub ------------------------------------------------------------------------------------------

def repository(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_hub_names():
    assert hub_name("hf://openai/clip-vit-base-patch32") == HubName("openai/clip-vit-base-patch32", None)
    assert hub_name("hf://a/b@v1.0") == HubName("a/b", "v1.0") and hub_name("a/b") is None
    for wrong in ("hf://a", "hf://a/b/c", "hf://a/../b", "hf://"):
        with pytest.raises(ValueError, match="is not hf://USER/REPOSITORY"):
            hub_name(wrong)


def test_a_repository_of_the_hub_is_a_model(saved, tmp_path, monkeypatch):
    parts = tmp_path / "parts"
    saved["tiny"][1].save_pretrained(parts, max_shard_size="200KB")
    repos = {"some/clip": repository(saved["tiny"][0]), "some/parts": repository(parts)}
    with FakeHub(repos) as hub:
        hub.reach(monkeypatch, tmp_path / "cache")
        expected = logits_of(saved["tiny"][0], "tiny")
        for name in repos:
            clip.clip.check_model_name(f"hf://{name}")
            assert torch.equal(logits_of(f"hf://{name}", "tiny"), expected)
        asked = len(hub.requests)
        set_constants(monkeypatch, HF_HUB_OFFLINE=True)
        assert torch.equal(logits_of(f"hf://some/clip@{hub.commit('some/clip')}", "tiny"), expected)
        assert len(hub.requests) == asked
        with pytest.raises(RuntimeError, match="cannot get some/new from http://.*HF_HUB_OFFLINE is set.*their folder"):
            fetch_hub_model(HubName("some/new", None))


def test_another_kind_of_repository_is_refused_before_its_weights_are_fetched(tmp_path, monkeypatch):
    huge = LAION | {"vision_config": {"hidden_size": 1280, "num_attention_heads": 16, "intermediate_size": 5120}}
    siglip = {"model_cfg": {"embed_dim": 8, "vision_cfg": {"timm_model_name": "x"}, "text_cfg": {}}}
    repos = {"laion/huge": {"config.json": json.dumps(huge).encode(), "model.safetensors": b"x"},
             "timm/siglip": {"open_clip_config.json": json.dumps(siglip).encode(), "open_clip_model.safetensors": b"x"},
             "some/empty": {"config.json": json.dumps(LAION).encode()}, "some/text": {"README.md": b"x"}}  # fmt: skip
    with FakeHub(repos) as hub:
        hub.reach(monkeypatch, tmp_path)
        with pytest.raises(ValueError, match="hf://laion/huge: .*heads of width 80"):
            clip.load_clip_to_cpu("hf://laion/huge")
        with pytest.raises(ValueError, match="hf://timm/siglip: .*Unknown model"):
            clip.load_clip_to_cpu("hf://timm/siglip")
        assert not any(path.endswith(".safetensors") for path, _ in hub.requests)
        with pytest.raises(RuntimeError, match="cannot get some/empty .* none of model.safetensors"):
            clip.load_clip_to_cpu("hf://some/empty")
        with pytest.raises(RuntimeError, match="cannot get some/text .* has no config.json"):
            clip.load_clip_to_cpu("hf://some/text")
        with pytest.raises(RuntimeError, match="cannot get some/none .*there is no such repository"):
            clip.load_clip_to_cpu("hf://some/none")


def test_a_folder_is_the_backbone_of_a_run_until_it_changes(saved, tmp_path):
    from dassl.config import get_cfg_default
    from runs.config import extend_cfg
    from trainers.parts.backbone import load_backbone

    for name, content in repository(saved["tiny"][0]).items():
        (tmp_path / name).write_bytes(content)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE = str(tmp_path), (32, 32)
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(PIXEL_MEAN), list(PIXEL_STD)
    first = load_backbone(cfg, "fp32", torch.device("cpu"))
    assert load_backbone(cfg, "fp32", torch.device("cpu")) is first
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"logit_scale": torch.tensor(1.0)}, tmp_path / "model.safetensors")
    assert load_backbone(cfg, "fp32", torch.device("cpu")).logit_scale == 1
