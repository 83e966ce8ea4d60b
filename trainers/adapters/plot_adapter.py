"""The trainer PLOTAdapter: a trained and then frozen PLOT, and a cache that is matched by transport, too."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

from ..checkpoints import check_words, find_learned, state_of
from ..plot import PLOT
from ..starts import start_file, warn_of_leak, warn_of_places
from .model import PlotAdapterModel
from .options import PlotAdapterOptions
from .trainer import AdapterTrainer

KEY = "TRAINER.PLOTADAPTER.PRETRAIN_DIR"


@TRAINER_REGISTRY.register()
class PLOTAdapter(AdapterTrainer, PLOT):  # type: ignore[misc, override]
    """PLOT on Tip-Adapter: the prompts of a finished PLOT run stay as they are, and the keys of the cache learn.

    Seed and shots must be those of that run, so that both have seen the same images.
    """

    can_be_mapped = has_words = False
    starts_from = "PLOT"
    options_type = PlotAdapterOptions  # type: ignore[assignment]
    options: PlotAdapterOptions
    n_keys = 2

    def build_adapter(self, clip_model: CLIP) -> PlotAdapterModel:
        plot: Any = self.assemble(clip_model)
        plot.text_encoder.chunk = self.options.text_chunk
        text, cache = self.prompt_and_cache(clip_model, plot.prompt_learner.ctx)
        return PlotAdapterModel(clip_model, text, cache, plot, self.options.cache_epsilon)

    def take_start(self) -> dict[str, Any]:
        """The prompts; a run that goes on has them in its own checkpoint."""
        path = start_file(self.options.pretrained or self.default_start(), KEY)
        checkpoint, plot = load_checkpoint(str(path)), self.model.plot
        learned = find_learned(state_of(checkpoint), plot, path)
        check_words(state_of(checkpoint), plot.prompt_learner, path)
        plot.prompt_learner.load_state_dict(learned)
        print(f'Taking the prompts of "{path}" (epoch = {checkpoint.get("epoch")})')
        warn_of_leak(path, self.cfg.SEED, self.cfg.DATASET.NUM_SHOTS)
        warn_of_places(path, self.options.dense, f"TRAINER.{self.options.node}.DENSE")
        return {"prompts": str(path)}

    def default_start(self) -> Path:
        """Where the PLOT run of the same data, shots and seed would be.  Raises ValueError where nothing tells."""
        parts = Path(self.output_dir).parts
        if "PLOTAdapter" not in parts:
            raise ValueError(f"which prompts? set {KEY} to a finished PLOT run of this data set, shots and seed")
        return Path(*("PLOT" if part == "PLOTAdapter" else part for part in parts))

    def epoch_facts(self) -> dict[str, Any]:
        """The prompts do not change."""
        return {}

    def diagnostics(self) -> dict[str, Any] | None:
        """How the transport between images and cache behaved in the last test."""
        found = super().diagnostics()
        return found and found | {"epsilon": self.options.cache_epsilon}
