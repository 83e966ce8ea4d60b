"""CLIP under OpenAI's interface, frozen: everything here computes, nothing learns.

`clip.load` and `clip.tokenize` are the way in. clip/model.py is the model, clip/features.py what its image
encoder returns, clip/prompt_text.py the fast path for learned prompts, clip/weights.py the formats that are
read.
"""
import dassl  # noqa: F401  (before torch: how its threads wait)

from .clip import available_models, load, load_clip_to_cpu, tokenize

__all__ = ["available_models", "load", "load_clip_to_cpu", "tokenize"]
