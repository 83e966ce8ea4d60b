"""`TrainerBase`: named models with their optimisers and schedules, the order of a training run, checkpoints.

It knows neither data nor losses. A run is this little program:

    before_train()                  # resumes when there is something to resume
    for epoch in range(start_epoch, max_epoch):
        before_epoch()
        run_epoch()
        after_epoch()               # validates and saves where that is asked for
    after_train()                   # tests

Before each epoch the state is kept in memory, for a run that is interrupted (state.py, interruption.py).
"""
from __future__ import annotations

import logging
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dassl.config.defaults import STATE_MINUTES
from dassl.plain.ranks import is_first, size
from dassl.utils.checkpoint import (
    BEST_NAME,
    CheckpointError,
    UnsafeCheckpointError,
    load_resume_point,
    load_training,
    restore_training,
    save_checkpoint,
)
from dassl.utils.rng import get_rng_state, set_rng_state

from . import endings, processes
from .interruption import Interrupted, Signals, catching_signals
from .state import StateKeeper, furthest_state

__all__ = ["SummaryWriter", "TrainerBase"]

log = logging.getLogger(__name__)


def SummaryWriter(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 (stands for torch's class)
    """Make torch's tensorboard writer, imported only here; ImportError without the package `tensorboard`."""
    from torch.utils.tensorboard import SummaryWriter as Writer

    return Writer(*args, **kwargs)


class TrainerBase:
    """Named models, and the order of a run.

    Models are registered by name; methods that take `names` mean all of them when it is None, and those that step or
    zero pass over models without an optimiser or a schedule. A trainer may register a part of a larger model: only that
    part is saved, resumed and switched between training and evaluation mode.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None
        self.history: list[dict[str, Any]] = []  # one entry an epoch: epoch (from 1), mean meters, lr, epoch_facts()
        self.looks: dict[str, int] | None = {}  # how often each split was evaluated; None: unknown
        self._resumed: dict[str, Any] | None = None  # to be restored right before the first epoch
        self._signals = Signals()
        self._state = StateKeeper(None, 0)  # of the run that `train` is in
        self._agreed: tuple[int, int] | None = None  # step at which the processes of this run last compared signals

    # --- models ---

    def register_model(
        self, name: str = "model", model: nn.Module | None = None, optim: Any = None, sched: Any = None
    ) -> None:
        """File a model under a name of its own.

        Parameters
        ----------
        name : str
            Also the name of its folder of checkpoints; an AssertionError where it is taken.
        model : nn.Module
            The module that is saved.
        optim, sched : optional
            Its optimiser and its learning-rate schedule, if it learns.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("call super().__init__() before register_model()")
        assert name not in self._models, f'a model named "{name}" is registered already; choose another name'
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | Sequence[str] | None = None) -> list[str]:
        """Return all names in order of registration, or those that are given, an AssertionError for an unknown one."""
        known = list(self._models)
        if names is None:
            return known
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            assert name in known, f'no model is named "{name}"; registered: {", ".join(known) or "none"}'
        return wanted

    def set_model_mode(self, mode: str = "train", names: str | Sequence[str] | None = None) -> None:
        """Switch registered modules, and no others, to a mode: "train", or "test" or "eval"; else a KeyError."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(f'mode must be "train", "test" or "eval", got {mode!r}')
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | Sequence[str] | None = None) -> None:
        """Step the schedules. For trainers to call, once at the end of each epoch; the engine never does."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    # --- one step ---

    def detect_anomaly(self, loss: Tensor) -> None:
        """Raise FloatingPointError when the loss is not finite."""
        if not torch.isfinite(loss).all():
            epoch, batch = getattr(self, "epoch", -1) + 1, getattr(self, "batch_idx", -1) + 1
            place = f"epoch {epoch}, batch {batch}"
            raise FloatingPointError(f"Loss is infinite or NaN! ({place}; try a lower OPTIM.LR or fp32)")

    def check_learned(self) -> None:
        """Raise FloatingPointError when a parameter that learns is not finite: no loss shows that of the last step."""
        for name, model in self._models.items():
            for key, parameter in model.named_parameters() if isinstance(model, nn.Module) else ():
                if parameter.requires_grad and not torch.isfinite(parameter).all():
                    epoch = getattr(self, "epoch", -1) + 1
                    raise FloatingPointError(
                        f"Training has diverged: `{key}` of {name} is infinite or NaN after epoch {epoch}; "
                        "try a lower OPTIM.LR or fp32"
                    )

    def model_zero_grad(self, names: str | Sequence[str] | None = None) -> None:
        """Zero the gradients."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        """Check the loss, and go backward."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | Sequence[str] | None = None) -> None:
        """Step the optimisers."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: Tensor, names: str | Sequence[str] | None = None) -> None:
        """Zero the gradients, check the loss, go backward, step the optimisers."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    # --- tensorboard ---

    def init_writer(self, log_dir: str) -> None:
        """Open a tensorboard writer. Without the package `tensorboard`, say so and go on without."""
        if self._writer is not None or not is_first():
            return
        try:
            self._writer = SummaryWriter(log_dir=log_dir)
        except ImportError:
            log.info("tensorboard is not installed, so no curves are written (pip install tensorboard)")
        else:
            log.info(f"Initialize tensorboard (log_dir={log_dir})")

    def close_writer(self) -> None:
        """Close the tensorboard writer, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a point of a tensorboard curve; nothing without a writer."""
        self._obey_signals(again=False)  # the epoch loops of plugins call this in every step
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # --- the run ---

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run the epochs from `start_epoch` (from 0, which `before_train` may move) to before `max_epoch`.

        Raises
        ------
        Interrupted
            When a signal asks the run to stop (interruption.py); it says what is kept.
        FloatingPointError
            When the training diverges. No state is kept then: it would diverge again.
        """
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        try:
            self.before_train()
            self.epoch = max(self.start_epoch - 1, 0)
            folder = getattr(self, "output_dir", None) if is_first() else None
            self._state = StateKeeper(folder, self._state_minutes(), self.start_epoch)
            with catching_signals(hopeless=endings.failed) as self._signals:
                self._run_epochs()
            self._state.finish()
        finally:
            self.close_writer()

    def _run_epochs(self) -> None:
        """Run the epochs, and keep the state of the last finished one when something ends them."""
        try:
            started = time.perf_counter()
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self._restore_resumed()
                self._state.after(epoch, self._whole_state)
                self.before_epoch()
                self.run_epoch()
                self.check_learned()
                self.after_epoch()
                self._obey_signals()
            self.train_seconds = time.perf_counter() - started  # of this process, validation included
            self.after_train()
            self._obey_signals()
        except FloatingPointError:  # it would diverge again
            raise
        except (KeyboardInterrupt, Exception) as error:
            self._state.keep()
            if not isinstance(error, KeyboardInterrupt) and (self._signals.stop is None or size() > 1):
                raise
            # Ctrl-C also reaches the worker processes of loaders, whose end may be noticed first
            if not self._signals.between_steps:
                self._writer = None  # it may have been caught within its lock, and would wait for itself
            text = self._state.outlook(self.epoch + 1, self.max_epoch)
            raise Interrupted(text, self._signals.stop or signal.SIGINT) from None

    def _state_minutes(self) -> float:
        """Return how often the state is written; a subclass may have a configuration, or none."""
        options = getattr(getattr(self, "cfg", None), "TRAIN", {})
        return options.get("STATE_MINUTES", STATE_MINUTES)

    def _obey_signals(self, again: bool = True) -> None:
        """Stop, or write the state, where a signal has asked for it; called between two steps.

        The processes of one run do so together, as soon as one of them has had the signal: each time that all of them
        come here, but without `again` once a step.
        """
        if size() > 1:
            step = getattr(self, "epoch", 0) + 1, getattr(self, "batch_idx", -1) + 1
            if not again and step == self._agreed:
                return
            self._agreed = step
            asked = [self._signals.stop or 0, int(self._signals.keep)]
            stop, keep = processes.highest(asked, "epoch {}, batch {}".format(*step))
            self._signals.stop, self._signals.keep = stop or None, bool(keep)
        self._signals.check()
        if self._signals.keep:
            self._signals.keep = False
            self._state.keep()
            log.info(f"The state after epoch {self._state.saved} is kept, as a signal asked for")

    def before_train(self) -> None:
        """Do what comes before the first epoch; nothing here."""

    def after_train(self) -> None:
        """Do what comes after the last epoch; nothing here."""

    def before_epoch(self) -> None:
        """Do what comes before each epoch; nothing here."""

    def after_epoch(self) -> None:
        """Do what comes after each epoch; nothing here."""

    def run_epoch(self) -> None:
        """Train for an epoch; for subclasses to define, as are the methods below."""
        raise NotImplementedError(f"{type(self).__name__} must define run_epoch")

    def test(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the model."""
        raise NotImplementedError(f"{type(self).__name__} must define test")

    def parse_batch_train(self, *args: Any, **kwargs: Any) -> Any:
        """Take out of a batch what `forward_backward` works with, on the device."""
        raise NotImplementedError(f"{type(self).__name__} must define parse_batch_train")

    def parse_batch_test(self, *args: Any, **kwargs: Any) -> Any:
        """Take inputs and labels out of a batch, on the device."""
        raise NotImplementedError(f"{type(self).__name__} must define parse_batch_test")

    def forward_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Make one training step on a batch; return {meter: number} or None."""
        raise NotImplementedError(f"{type(self).__name__} does not train: it defines no forward_backward")

    def model_inference(self, *args: Any, **kwargs: Any) -> Any:
        """Return the logits of inputs."""
        raise NotImplementedError(f"{type(self).__name__} must define model_inference")

    def diagnostics(self) -> dict[str, Any] | None:
        """Return what else there is to say about the last test, as plain JSON data, for the run's record."""
        return None

    # --- checkpoints ---

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Save every registered model, below `directory`/<name>.

        Besides the model's own state a file holds what an exact continuation needs: random generators, the
        gradient scaler, the best validation result, and the history of meters.

        Parameters
        ----------
        epoch : int
            The epoch that has just ended, from 0.
        directory : str
            As a rule the run's folder.
        is_best : bool
            Save the model as the best one, too.
        val_result : float, optional
            Accuracy on validation data, in percent.
        model_name : str
            Name of the file; by default model.pth.tar-<finished epochs>.
        """
        engine = self._engine_state()
        for name, state in self._model_states(epoch + 1).items():
            whole = state | {"val_result": val_result, "engine": engine}
            save_checkpoint(whole, os.path.join(directory, name), is_best=is_best, model_name=model_name)
        processes.meet(f"the checkpoint after epoch {epoch + 1}")  # all may read it from here on
        if not model_name and directory == getattr(self, "output_dir", None):
            self._state.saved = max(self._state.saved, epoch + 1)

    def _model_states(self, done: int) -> dict[str, dict[str, Any]]:
        """Return for each registered model what a checkpoint holds of it after `done` epochs."""
        states = {}
        for name, model in self._models.items():
            optim, sched = self._optims[name], self._scheds[name]
            states[name] = {
                "state_dict": (model.module if isinstance(model, nn.DataParallel) else model).state_dict(),
                "epoch": done,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
            }
        return states

    def _whole_state(self) -> dict[str, Any]:
        """Return everything that an exact continuation from before this epoch needs."""
        engine = self._engine_state()
        engine["history"] = list(self.history)
        return {"epoch": self.epoch, "models": self._model_states(self.epoch), "engine": engine}

    def _engine_state(self) -> dict[str, Any]:
        """Return what belongs to the run as a whole, and not to one model."""
        scaler = getattr(self, "scaler", None)
        return {
            "rng": get_rng_state(),
            "best_result": float(getattr(self, "best_result", -np.inf)),
            "history": self.history,
            "looks": self.looks,
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def resume_model_if_exist(self, directory: str) -> int:
        """Restore every model from the last epoch that was saved for all of them.

        That is the epoch of a checkpoint in `directory`, or of the state that an interrupted run kept there or in
        `output_dir`, whichever is further. The random generators follow right before the next epoch, so that it runs as
        if there had been no break.

        Returns
        -------
        int
            Finished epochs. 0 when no model is registered, a model's folder is missing, or the folders hold no
            checkpoint.
        """
        names = self.get_model_names()
        folders = [os.path.join(directory, name) for name in names]
        state = furthest_state([directory, getattr(self, "output_dir", directory)], names) if names else None
        point = None
        if folders and all(os.path.isdir(folder) for folder in folders):
            try:
                point = load_resume_point(folders)
            except CheckpointError as error:
                if state is None or isinstance(error, UnsafeCheckpointError):
                    raise
        if state is not None and (point is None or state[0]["epoch"] >= point[0]):
            content, source = state
            checkpoints = [content["models"][name] | {"engine": content["engine"]} for name in names]
            point, folders = (content["epoch"], checkpoints), [source] * len(names)
        else:
            source = directory
        if point is None:
            log.info("No checkpoint found, train from scratch")
            return 0
        epoch, checkpoints = point
        for name, place, checkpoint in zip(names, folders, checkpoints, strict=True):
            restore_training(checkpoint, self._models[name], self._optims[name], self._scheds[name], place)
        log.info(f"Resuming from {source} after epoch {epoch}")
        self._resumed = checkpoints[0].get("engine")
        if self._resumed is not None:
            self.best_result = self._resumed["best_result"]
            self.history = [dict(entry) for entry in self._resumed["history"]]
        looks = (self._resumed or {}).get("looks")  # the count goes on, unless what is resumed kept none
        self.looks = None if looks is None else dict(looks)
        return epoch

    def _restore_resumed(self) -> None:
        """Restore the generators and the gradient scaler, once, right before the first resumed epoch."""
        if self._resumed is None:
            return
        state, self._resumed = self._resumed, None
        scaler = getattr(self, "scaler", None)
        if state["scaler"] and scaler is not None:
            scaler.load_state_dict(state["scaler"])
        set_rng_state(state["rng"])

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every model.

        Parameters
        ----------
        directory : str
            The folder of a run; where it is empty, nothing is loaded.
        epoch : int, optional
            Finished epochs; by default the best weights are taken.

        Raises
        ------
        FileNotFoundError
            When a file is missing.
        RuntimeError
            When the weights are of another model.
        """
        if not directory:
            log.info("Note that load_model() is skipped as no pretrained model is given")
            return
        file_name = BEST_NAME if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = os.path.join(directory, name, file_name)
            checkpoint = load_training(path)
            restore_training({"state_dict": checkpoint["state_dict"]}, self._models[name], source=path)
            result = checkpoint.get("val_result")
            shown = "" if result is None else f", val_result = {result:.2f}"
            log.info(f'Loading weights to {name} from "{path}" (epoch = {checkpoint.get("epoch")}{shown})')
