"""Small tools: files, log, meters, registry, checkpoints. Those that need torch are imported when first used."""
from __future__ import annotations

from typing import TYPE_CHECKING

from dassl.plain.lazy import lazy_imports

from .logger import Logger, restore_stdout, setup_logger
from .registry import Registry
from .tools import (
    atomic_write,
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    printable,
    read_json,
    set_random_seed,
    tolist_if_not,
    write_json,
)

if TYPE_CHECKING:
    from .checkpoint import (
        CheckpointError,
        UnsafeCheckpointError,
        load_checkpoint,
        resume_from_checkpoint,
        save_checkpoint,
    )
    from .images import read_image
    from .meters import AverageMeter, MetricMeter
    from .torchtools import (
        count_num_param,
        init_network_weights,
        load_pretrained_weights,
        open_all_layers,
        open_specified_layers,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__, "meters", "images", "checkpoint", "torchtools")

__all__ = [
    "AverageMeter", "CheckpointError", "Logger", "MetricMeter", "Registry", "UnsafeCheckpointError", "atomic_write",
    "check_availability", "check_isfile", "collect_env_info", "count_num_param", "download_url",
    "get_most_similar_str_to_a_from_b", "init_network_weights", "listdir_nohidden", "load_checkpoint",
    "load_pretrained_weights", "mkdir_if_missing", "open_all_layers", "open_specified_layers", "printable",
    "read_image", "read_json", "restore_stdout", "resume_from_checkpoint", "save_checkpoint", "set_random_seed",
    "setup_logger", "tolist_if_not", "write_json",
]  # fmt: skip
