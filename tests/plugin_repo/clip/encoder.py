import torch
from torch import nn


def load() -> nn.Module:
    """A frozen random projection of 8 x 8 pictures."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32), nn.Tanh()).requires_grad_(False).eval()
