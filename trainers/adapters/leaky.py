"""Upstream's protocol, which looks at the test labels three times; only where SELECT_ON_TEST_LEAKY asks for it.

1. After every epoch the test accuracy is computed, and the epoch where it is highest is kept.
2. The reported number is the larger one of two test accuracies: with the alpha and beta of the training, and with those
   that were searched on validation data.
3. On ImageNet the validation data of that search are the test images.

What comes out says nothing about new images.  It is here to repeat published figures, and every record of it says so.
"""
from __future__ import annotations

from typing import Any

from ..parts.checkpoints import BEST, checkpoint_path

PROTOCOL = "leaky: selected on test"


def after_epoch(trainer: Any) -> None:
    """Keep the epoch if it is the best so far on the test images (1 above)."""
    result = trainer.test(split="test")
    if result > trainer.best_result:
        trainer.best_result = result
        trainer.save_model(trainer.epoch, trainer.output_dir, model_name=BEST)


def after_train(trainer: Any) -> None:
    """Report the better of two alphas and betas (2 above)."""
    print("Finish training")
    print(f"Warning: {PROTOCOL}. The accuracy of this run is no fair reference")
    path = checkpoint_path(trainer.folder, None)
    trainer.load_learned(path)
    trained = trainer.values
    trainer.cache.alpha, trainer.cache.beta = trained.alpha, trained.beta  # a run that goes on may have chosen already
    accuracies = [trainer.test(split="test")]
    trainer.choose()
    accuracies.append(trainer.test(split="test"))
    if accuracies[0] >= accuracies[1]:
        trainer.set_values(trained.alpha, trained.beta, "those of the training, which were better on test")
    trainer.selection["test_accuracies"] = accuracies
    trainer.keep(path, epoch_by="test")
    trainer.test()
