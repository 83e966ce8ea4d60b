"""Tiny models of open_clip's kinds, with random weights, in the folders of the hub's layout.

Each has the parts of the published model that it is called after, 64 x 64 images and two layers; what timm's sizes
leave no choice in is given by `timm_model_kwargs`.
"""
from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SIDE = 64
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"img_size": SIDE, "embed_dim": 32, "depth": 2, "num_heads": 2}
POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 5, "output_tokens": True}


def _timm(name: str, pool: str, projection: str | None, **options: Any) -> dict[str, Any]:
    return {"image_size": SIDE, "timm_model_name": name, "timm_pool": pool, "timm_proj": projection,
            "timm_model_kwargs": options}  # fmt: skip


def _own(**options: Any) -> dict[str, Any]:
    return {"image_size": SIDE, "layers": 2, "width": 40, "head_width": 20, "patch_size": 16, **options}


KINDS: dict[str, dict[str, Any]] = {
    "eva02": {
        "vision_cfg": _timm("eva02_base_patch16_clip_224", "token", None, **VIT), "text_cfg": TEXT, "custom_text": True,
    },
    "siglip": {
        "vision_cfg": _timm("vit_base_patch16_siglip_224", "map", "none", **VIT), "custom_text": True,
        "text_cfg": TEXT | {
            "context_length": 40, "vocab_size": 300, "hf_tokenizer_name": "some/siglip", "no_causal_mask": True,
            "tokenizer_kwargs": {"clean": "canonicalize"}, "proj_bias": True, "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
        },
        "init_logit_bias": -10,
    },
    "mobileclip": {
        "vision_cfg": _timm("fastvit_mci0", "avg", None, layers=(1, 1, 1, 1), embed_dims=(8, 8, 16, 32)),
        "text_cfg": TEXT | {"no_causal_mask": True}, "custom_text": True,
    },
    "convnext": {
        "vision_cfg": _timm("convnext_base", "", "linear", depths=(1, 1, 1, 1), dims=(8, 8, 16, 32)),
        "text_cfg": TEXT | {"ls_init_value": 0.5},
    },
    "coca": {
        "vision_cfg": _own(**POOLED), "custom_text": True,
        "text_cfg": TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": TEXT | {"context_length": 76, "vocab_size": 99, "attn_pooler_heads": 2},
    },
    "vit_h": {"vision_cfg": _own(), "text_cfg": TEXT},
    "pooled_by_attention": {  # a ResNet's kind of pool on a trunk of timm, with TensorFlow's padding
        "vision_cfg": _timm("mobilenetv2_035", "abs_attn", "", pad_type="same") | {"image_size": 224},
        "text_cfg": TEXT, "custom_text": True,
    },
    "normalised_heads": {"vision_cfg": _own(qk_norm=True), "text_cfg": TEXT | {"qk_norm": True}, "custom_text": True},
}  # fmt: skip
CAUSAL = ("eva02", "convnext", "vit_h")
WORDS = "a photo of the X airplane anchor ant barrel bass beaver big binocular black bonsai blue car dog cat tench"


def model_config(kind: str) -> dict[str, Any]:
    return {"embed_dim": 32, **deepcopy(KINDS[kind])}


def build(kind: str) -> Any:
    """open_clip's own model of a kind, in eval mode."""
    import open_clip

    from clip.openclip.building import timm_options

    config = model_config(kind)
    options = config["vision_cfg"].pop("timm_model_kwargs", {})
    custom = config.pop("custom_text", False)
    cls = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    torch.manual_seed(0)
    with timm_options(options):
        model = cls(**config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and scales are not what they begin with
            parameter.add_(0.02 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def save(kind: str, folder: Path) -> tuple[Path, Any]:
    """The folder of a kind's model, and open_clip's own model of the same weights."""
    folder.mkdir()
    model = build(kind)
    squashed = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"model_cfg": model_config(kind), "preprocess_cfg": squashed if kind == "siglip" else {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    if "hf_tokenizer_name" in config["model_cfg"]["text_cfg"]:
        save_tokenizer(folder)
    return folder, model


def save_tokenizer(folder: Path) -> None:
    """A little SentencePiece-like tokenizer: no start token, an end token, and the same one as padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789▁"]
    specials = ["<unk>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=specials, initial_alphabet=letters)
    tokenizer.train_from_iterator([WORDS.lower()] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"tokenizer_class": "PreTrainedTokenizerFast"}))
