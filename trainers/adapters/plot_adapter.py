"""The trainer PLOTAdapter: a trained and then frozen PLOT, and a cache that is matched by transport, too."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

from ..parts.checkpoints import check_words, find_learned, state_of
from ..parts.starts import start_file, warn_of_leak, warn_of_places
from ..plot.evidence import TransportEvidence
from ..plot.trainer import build_plot
from .model import PlotAdapterModel
from .options import PlotAdapterOptions
from .trainer import AdapterTrainer


@TRAINER_REGISTRY.register()
class PLOTAdapter(AdapterTrainer):
    """PLOT on Tip-Adapter: the prompts of a finished PLOT run stay as they are, and the keys of the cache learn.

    Seed and shots must be those of that run, so that both have seen the same images.

    Notes
    -----
    The engine registers the cache, which has the prompts' contexts as its entry `ctx`: a checkpoint is complete.
    """

    options_type = PlotAdapterOptions
    options: PlotAdapterOptions
    learned_tensors = ("keys", "labels", "ctx", "_extra_state")
    transports = has_places = True
    starts_from = "PLOT"
    n_keys = 2

    def assemble(self, clip_model: CLIP) -> PlotAdapterModel:
        """Build a PLOT model whose prompts are still to come, and an empty cache; its transport keeps evidence."""
        options, cfg = self.options, self.cfg
        plot = build_plot(options, clip_model, self.dm.dataset.classnames, cfg.DATASET.NAME, cfg.SEED)
        plot.text_encoder.chunk = options.text_chunk
        text, cache = self.prompt_and_cache(clip_model, plot.prompt_learner.ctx)
        model = PlotAdapterModel(clip_model, text, cache, plot, options.cache_epsilon)
        self.evidence = TransportEvidence(model, has_places=True, prompts_learn=False)
        return model

    def take_start(self) -> dict[str, Any]:
        """Take the prompts of the PLOT run; a run that goes on has them in its own checkpoint.

        Warns where that run had another seed, number of shots, draw of them, or kind of local feature.

        Raises
        ------
        FileNotFoundError, ValueError
            Where there is no such run, or its prompts do not fit the classes and the backbone of this one.
        """
        path = start_file(self.options.pretrained or self.default_start(), self.options.key("pretrained"))
        checkpoint, plot = load_checkpoint(str(path)), self.model.plot
        learned = find_learned(state_of(checkpoint), plot, path)
        check_words(state_of(checkpoint), plot.prompt_learner, path)
        plot.prompt_learner.load_state_dict(learned)
        print(f'Taking the prompts of "{path}" (epoch = {checkpoint.get("epoch")})')
        warn_of_leak(path, self.cfg)
        warn_of_places(path, self.options.dense, self.options.key("dense"))
        return {"prompts": str(path)}

    def default_start(self) -> Path:
        """Guess where the PLOT run of the same data, shots and seed is; ValueError where nothing tells."""
        parts, own, other = Path(self.output_dir).parts, self.cfg.TRAINER.NAME, self.starts_from
        if own not in parts:
            key = self.options.key("pretrained")
            raise ValueError(f"which prompts? set {key} to a finished {other} run of this data set, shots and seed")
        return Path(*(other if part == own else part for part in parts))
