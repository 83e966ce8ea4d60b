"""The trainer PLOTPP: PLOT with visual prompts, in one stage or two."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from clip.model import CLIP, VisionTransformer
from dassl.engine import TRAINER_REGISTRY

from ..clip_trainer import ClipTrainer
from ..parts.checkpoints import check_fixed_words, state_of
from ..parts.prompts import context_settings
from ..parts.starts import start_file, warn_of_leak
from ..plot.evidence import TransportEvidence
from .model import PlotPPModel
from .options import PlotPPOptions, recipe
from .prompts import TwoSidedPromptLearner, start_at_random, start_from_templates, templates_of


@TRAINER_REGISTRY.register()
class PLOTPP(ClipTrainer):
    """PLOT++: the published recipe learns the visual prompts first, then both kinds from there (PRETRAIN_DIR).

    Notes
    -----
    Saved is the prompt learner alone, `ctx` (N, n, E) and `ctx_vision` (M, V, W); the whole models that the authors
    published are read as well.
    """

    options_type = PlotPPOptions
    options: PlotPPOptions
    recipe = staticmethod(recipe)
    learned_tensors = ("ctx", "ctx_vision")
    transports = can_be_mapped = has_words = True
    starts_from = "PLOTPP"  # the second stage

    def assemble(self, clip_model: CLIP) -> PlotPPModel:
        """Build a PlotPPModel of the options; its transport keeps evidence.

        Raises
        ------
        ValueError
            For a backbone that is no vision transformer.
        """
        options = self.options
        if not isinstance(clip_model.visual, VisionTransformer):
            raise ValueError(
                "PLOTPP shows its visual prompts to a vision transformer of OpenAI's architecture, which takes further "
                f"tokens, but MODEL.BACKBONE.NAME {self.cfg.MODEL.BACKBONE.NAME} is a "
                f"{type(clip_model.visual).__name__}; use ViT-B/16, or the trainer PLOT"
            )
        learner = self.build_two_sided(clip_model)
        print(f"Matching: {options.matching}; pooled logits are {'added' if options.trade_off else 'not added'}")
        model = PlotPPModel(learner, clip_model, options.transport(), options.trade_off)
        self.evidence = TransportEvidence(model)
        return model

    def build_two_sided(self, clip_model: CLIP) -> TwoSidedPromptLearner:
        """Build what is learned, and say in the log what it starts from."""
        options, names = self.options, self.dm.dataset.classnames
        settings = context_settings(options.context_precision, clip_model, self.cfg.SEED)
        if options.init:
            templates = templates_of(self.cfg.DATASET.NAME, options.legacy)
            start = start_from_templates(templates, options.n_prompts, names, clip_model, settings["generator"])
        else:
            start = start_at_random(options.n_context, options.n_prompts, names, clip_model, settings["generator"])
        learner = TwoSidedPromptLearner(
            clip_model, start, options.n_vision_prompts, options.n_vision_context, **settings
        )
        print(f"{options.n_prompts} text prompts of {learner.n_context} context tokens, starting from:")
        for n, words in enumerate(start.words, start=1):
            earlier = start.words.index(words) + 1
            copy = ""
            if options.init and earlier < n:
                same = n <= len(templates)
                copy = f" (as prompt {earlier}: they stay identical)" if same else f" (as prompt {earlier}, with noise)"
            print(f'  "{words}"{copy}')
        m, tokens, width = learner.ctx_vision.shape
        print(f"{m} visual prompts of {tokens} tokens of width {width}, starting at random")
        print("Training " + ("the visual prompts only" if options.update == "vision" else "text and visual prompts"))
        return learner

    def learns(self, name: str) -> bool:
        """Whether the model's parameter of this name is trained: in the first stage, the visual prompts alone."""
        return super().learns(name) and self.options.learns(name)

    # --- where the prompts come from ---------------------------------------------------------------------

    def before_train(self) -> None:
        """As every trainer, and then from PRETRAIN_DIR, which may have seen images that are not this run's."""
        super().before_train()
        if self.options.pretrained and self.start_epoch == 0:  # a resumed run is beyond its start
            warn_of_leak(self.load_pretrained(), self.cfg)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load as every prompt trainer; without a directory the prompts of PRETRAIN_DIR.

        Raises
        ------
        ValueError
            Where there is neither: an accuracy of untrained prompts is easily taken for a result.
        """
        if directory:
            super().load_model(directory, epoch)
        elif self.options.pretrained:
            self.load_pretrained()
        elif self.options.evaluate_untrained:
            super().load_model("")
        else:
            raise ValueError(
                "the prompts are untrained: give the run to evaluate with --model-dir, or its checkpoint as "
                f"{self.options.key('pretrained')}; {self.options.key('evaluate_untrained')} True evaluates them as "
                "they are"
            )

    def load_pretrained(self) -> Path:
        """Take both contexts of PRETRAIN_DIR: a file, or the folder of a run, of which the best or last epoch."""
        path = start_file(self.options.pretrained, self.options.key("pretrained"))
        self.load_learned(path)
        return path

    def load_learned(self, path: Path) -> dict[str, Any]:
        """As every prompt trainer's; refuses prompts that were learned before other words than they have here."""
        checkpoint = super().load_learned(path)
        remedy = f"set {self.options.key('legacy')} {not self.options.legacy}"
        check_fixed_words(state_of(checkpoint), self.model.prompt_learner, remedy, path)
        return checkpoint
