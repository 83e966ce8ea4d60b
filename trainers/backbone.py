"""The frozen CLIP that every trainer starts from, in the arithmetic that was asked for."""
from __future__ import annotations

import torch
from torch import nn

import clip
from clip.model import convert_weights


def load_backbone(name: str, precision: str, device: torch.device) -> nn.Module:
    """CLIP `name` (a known name or a path) on the CPU, frozen, in evaluation mode.

    precision: "fp32"; "amp" (float32 weights under autocast); "fp16" and "bf16" (matrices in that format; normalisation,
    embeddings and the scale of the logits stay float32).  fp16 and amp need an accelerator and become fp32 on a CPU.
    """
    print(f"Loading CLIP (backbone: {name})")
    model = clip.load_clip_to_cpu(name).float()
    precision = effective_precision(precision, device)
    if precision in ("fp16", "bf16"):
        convert_weights(model)
    if precision == "bf16":
        for parameter in model.parameters():
            if parameter.dtype == torch.float16:
                parameter.data = parameter.data.to(torch.bfloat16)
    return model.requires_grad_(False).eval()


def effective_precision(precision: str, device: torch.device) -> str:
    """What is really computed with; says so in one line where that is not what was asked for."""
    if device.type == "cpu" and precision in ("fp16", "amp"):
        print(f"PREC {precision} needs an accelerator; computing in fp32 on this CPU")
        return "fp32"
    return precision


def check_input_size(size: tuple[int, ...], model: nn.Module, name: str) -> None:
    """Raise ValueError where INPUT.SIZE is not what the backbone reads."""
    wanted = model.visual.input_resolution
    if tuple(size) != (wanted, wanted):
        given = " x ".join(str(side) for side in size)
        raise ValueError(
            f"INPUT.SIZE is {given} but backbone {name} reads {wanted} x {wanted} images; "
            f"set INPUT.SIZE to \"({wanted}, {wanted})\""
        )
