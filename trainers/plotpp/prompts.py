"""What PLOT++ learns: N text contexts, as PLOT, and M visual prompts, which the image encoder sees beside an image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import PromptTokens

from ..parts.dataset_facts import DEFAULT_TEMPLATE, dataset_facts
from ..parts.fixed_tokens import FixedTokens, embed, tokenize
from ..parts.prompts import COPY_NOISE_STD, RANDOM_STD, ContextLearner, random_context


class TextStart(NamedTuple):
    """N text prompts before training.

    Attributes
    ----------
    tokens
        (N, C, 77), tokenised prompts; positions 1 ... n are the context's.
    context
        (N, n, E).
    words
        What each context starts from.
    """

    tokens: Tensor  # (N, C, 77) tokenised prompts; positions 1 ... n are the context's
    context: Tensor  # (N, n, E)
    words: tuple[str, ...]  # what each context starts from


class TwoSidedPromptLearner(ContextLearner):
    """Parameters `ctx` (N, n, E) and `ctx_vision` (M, V, W), for C classes; W is the width of the image encoder.

    Prompts may differ in the words behind their context.  Those that agree are encoded together: `forward` gives one
    PromptTokens for each wording, and `order` says where their prompts belong.

    Parameters
    ----------
    clip_model
        A CLIP with a vision transformer.
    start
        The text prompts before training.
    n_vision_prompts, n_vision_context
        M and V; they start at random, std 0.02.
    dtype, generator
        Number format of both contexts, and what random numbers are drawn from.

    Attributes
    ----------
    words
        A FixedTokens for each wording.
    order
        (N,), where each prompt stands among the encoded ones.
    """

    words: Any  # ModuleList of FixedTokens, one for each wording
    order: Tensor  # (N,) where each prompt stands among the encoded ones
    shaped_by = "N, M, N_CTX, N_CTX_V, templates (CTX_INIT)"
    layout = "prompts x context tokens x token width"

    def __init__(
        self,
        clip_model: CLIP,
        start: TextStart,
        n_vision_prompts: int = 4,
        n_vision_context: int = 2,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_prompts, self.n_context, _ = start.context.shape
        self.ctx = nn.Parameter(start.context.to(dtype))
        width = clip_model.visual.conv1.out_channels
        vision = torch.empty(n_vision_prompts, n_vision_context, width).normal_(std=RANDOM_STD, generator=generator)
        self.ctx_vision = nn.Parameter(vision.to(dtype))

        self.tokenized_prompts = start.tokens.flatten(0, 1)  # (N*C, 77)
        behind = [tokens[:, 1 + self.n_context :].numpy().tobytes() for tokens in start.tokens]
        self.groups = [[n for n in range(self.n_prompts) if behind[n] == words] for words in dict.fromkeys(behind)]
        self.words = nn.ModuleList(
            FixedTokens(clip_model, start.tokens[group[0]], self.n_context) for group in self.groups
        )
        encoded = torch.tensor([n for group in self.groups for n in group])
        self.register_buffer("order", encoded.argsort(), persistent=False)

    def wordings(self) -> Sequence[FixedTokens]:
        """List the fixed tokens of each prompt; prompts of one wording share them."""
        of_prompt = {n: words for group, words in zip(self.groups, self.words, strict=True) for n in group}
        return [of_prompt[n] for n in range(self.n_prompts)]

    def contexts(self) -> Tensor:
        """Bring the text contexts into the shape (N, 1, n, E)."""
        return self.ctx.unsqueeze(1)

    def forward(self, classes: Tensor | None = None) -> list[PromptTokens]:
        """Build the prompts of each wording, for all classes or those that are wanted."""
        contexts = self.contexts()
        if len(self.groups) == 1:
            return [self.words[0].place(contexts, classes)]
        return [words.place(contexts[group], classes) for group, words in zip(self.groups, self.words, strict=True)]


def templates_of(dataset_name: str, legacy: bool = False) -> tuple[str, ...]:
    """Choose the distinct starts that there are for a data set.

    Parameters
    ----------
    dataset_name
        As it is registered.
    legacy
        Take the starts of the published runs, where those differ from what was meant.

    Returns
    -------
    tuple of str
        Those that the data set declares (the original has four for each of its own), or else the words of zero-shot
        CLIP before the class name.
    """
    facts = dataset_facts(dataset_name)
    starts = legacy and facts.legacy_prompt_starts or facts.prompt_starts
    return starts or (DEFAULT_TEMPLATE.partition(" {}")[0],)


def start_from_templates(
    templates: Sequence[str],
    n_prompts: int,
    classnames: Sequence[str],
    clip_model: CLIP,
    generator: torch.Generator | None = None,
) -> TextStart:
    """Start prompt n from template n.

    The first template decides the number of context tokens; further words of a longer one stay fixed.  Where there are
    fewer templates than prompts they are used again, with a little noise, since equal prompts get equal gradients for
    ever.

    Parameters
    ----------
    templates
        Words to be followed by the class name.
    n_prompts
        N.
    classnames, clip_model
        C names, and whose token table is used.
    generator
        What the noise is drawn from.
    """
    tokenizer = clip_model.tokens
    n_context = len(tokenizer.encode(templates[0]))
    words = tuple(templates[n % len(templates)] for n in range(n_prompts))
    tokens = torch.stack([tokenize(tokenizer, template, classnames, n_context) for template in words])
    context = embed(clip_model, tokenizer(list(words))[:, 1 : 1 + n_context])  # (N, n, E)
    for n in range(len(templates), n_prompts):
        context[n] += torch.empty(context.shape[1:]).normal_(std=COPY_NOISE_STD, generator=generator)
    return TextStart(tokens, context, words)


def start_at_random(
    n_context: int,
    n_prompts: int,
    classnames: Sequence[str],
    clip_model: CLIP,
    generator: torch.Generator | None = None,
) -> TextStart:
    """Start N random contexts of `n_context` tokens before the class name."""
    context, words = random_context(clip_model, n_prompts, n_context, generator)
    tokens = tokenize(clip_model.tokens, words, classnames, n_context).expand(n_prompts, -1, -1)
    return TextStart(tokens, context, (words,) * n_prompts)
