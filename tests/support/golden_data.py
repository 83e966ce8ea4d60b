"""Read the recorded truths under tests/golden (tests/golden/README.md says what each file holds).

The three things that are recipes rather than data are rebuilt here: the token embedding of the tiny CLIP
models, the fake few-shot tree, and the small synthetic Caltech101.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
VOCAB_SIZE = 49408


def read_npz(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, meta) of a golden file; meta is {} where the file has none."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "__meta__"}
        meta = json.loads(str(file["__meta__"])) if "__meta__" in file.files else {}
    return arrays, meta


def hashed_embedding(width: int, salt: int, vocab_size: int = VOCAB_SIZE) -> np.ndarray:
    """The tiny models' token embedding (vocab_size, width): an integer hash of (row, column, salt).

    With 32-bit wrap-around arithmetic, h = row*2654435761 + column*2246822519 + salt*3266489917 + 374761393 is
    mixed twice, and its upper 11 bits, centred, become a multiple of 2**-15.
    """
    mask = np.uint64(2**32 - 1)
    first, second = np.uint64(2246822519), np.uint64(3266489917)
    rows = np.arange(vocab_size, dtype=np.uint64)[:, None] * np.uint64(2654435761)
    columns = np.arange(width, dtype=np.uint64)[None, :] * first
    offset = np.uint64((salt * int(second) + 374761393) % 2**32)
    h = (rows + columns + offset) & mask
    for shift, factor in ((15, first), (13, second)):
        h = ((h ^ (h >> np.uint64(shift))) * factor) & mask
    h ^= h >> np.uint64(16)
    return (((h >> np.uint64(21)).astype(np.int64) - 1024) / 32768).astype(np.float32)


def tiny_state_dict(name: str, folder: Path = GOLDEN / "models", native: bool = False) -> dict[str, torch.Tensor]:
    """State dict of `tiny_rn` or `tiny_vit` under OpenAI's key names.

    float32 throughout, or with `native` as OpenAI's archives hold it: fp16 where theirs is, and the three
    size entries (`input_resolution`, `context_length`, `vocab_size`).
    """
    arrays, meta = read_npz(folder / f"{name}.npz")
    arrays["token_embedding.weight"] = hashed_embedding(meta["text_width"], meta["salt"])
    state = {}
    for key, value in arrays.items():
        tensor = torch.from_numpy(np.array(value))
        state[key] = tensor.float() if tensor.is_floating_point() else tensor
    if native:
        half = set(meta["half_keys"])
        state = {key: value.half() if key in half else value for key, value in state.items()}
        sizes = {"input_resolution": meta["input_resolution"], "context_length": meta["context_length"]}
        state |= {key: torch.tensor(size) for key, size in (sizes | {"vocab_size": VOCAB_SIZE}).items()}
    return state


# --- the fake few-shot tree ------------------------------------------------------------------------------

FEWSHOT_CLASSES = (
    "accordion airplane anchor ant barrel bass beaver binocular bonsai brain brontosaurus buddha "
    "butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body cougar_face crab "
    "crayfish crocodile crocodile_head cup dalmatian dollar_bill yin_yang"
).split()
FEWSHOT_SALT = 17
FEWSHOT_RANGES = {"train": (1, 1, 26), "val": (2, 1, 7), "test": (3, 2, 9)}  # part: (id, fewest, past the most)


def _fnv_mix(*numbers: int) -> int:
    h = 2166136261
    for number in numbers:
        for byte in number.to_bytes(4, "little"):
            h = ((h ^ byte) * 16777619) % 2**32
    h ^= h >> 15
    h = (h * 2246822519) % 2**32
    return h ^ (h >> 13)


def write_fewshot_tree(root: Path) -> dict[str, list]:
    """30 classes of uneven size as empty files in Caltech101's layout; returns the split that it also writes."""
    split: dict[str, list] = {}
    for part, (part_id, low, high) in FEWSHOT_RANGES.items():
        items = []
        for label, name in enumerate(FEWSHOT_CLASSES):
            count = low + _fnv_mix(FEWSHOT_SALT, part_id, label) % (high - low)
            items += [(_fnv_mix(FEWSHOT_SALT, part_id, label, k, 99), [f"{name}/{part}_{k:04d}.jpg", label, name])
                      for k in range(count)]
        split[part] = [item for _, item in sorted(items, key=lambda pair: pair[0])]
    base = root / "caltech-101"
    for path, _, _ in (item for items in split.values() for item in items):
        target = base / "101_ObjectCategories" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    (base / "split_zhou_Caltech101.json").write_text(json.dumps(split, indent=4))
    return split


# --- the synthetic Caltech101 ----------------------------------------------------------------------------

CALTECH_FOLDERS = (
    "Faces Leopards Motorbikes airplanes accordion soccer_ball water_lilly yin_yang"
).split()
CALTECH_IGNORED = ["BACKGROUND_Google", "Faces_easy"]


def _grating(label: int, index: int) -> np.ndarray:
    """One picture (H, W, 3) uint8: a sine grating whose angle, frequency and two colours depend on the class."""
    rng = np.random.default_rng([7, label, index])
    height, width = 64 + int(rng.integers(0, 9)), 64 + int(rng.integers(0, 17))
    y, x = np.mgrid[0:height, 0:width] / 64.0
    angle = np.pi * label / 8 + 0.15 * rng.standard_normal()
    frequency = 2 + label % 4 + 0.3 * rng.standard_normal()
    phase = rng.uniform(0, 2 * np.pi)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    light = np.array([37 * label, 91 * label + 60, 151 * label + 120]) % 256 + rng.normal(0, 12, 3)
    dark = np.array([200 - 53 * label, 29 * label + 10, 73 * label + 190]) % 256 + rng.normal(0, 12, 3)
    picture = wave[..., None] * light + (1 - wave[..., None]) * dark + rng.normal(0, 10, (height, width, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_synthetic_caltech(root: Path, per_class: int = 20, with_split: bool = True) -> Path:
    """Eight small classes (and the two ignored folders) in Caltech101's layout; the recorded split beside them."""
    from PIL import Image

    base = root / "caltech-101"
    for label, folder in enumerate(CALTECH_FOLDERS + CALTECH_IGNORED):
        (base / "101_ObjectCategories" / folder).mkdir(parents=True, exist_ok=True)
        for index in range(per_class if folder in CALTECH_FOLDERS else 3):
            path = base / "101_ObjectCategories" / folder / f"image_{index + 1:04d}.jpg"
            Image.fromarray(_grating(label, index)).save(path, quality=92)
    if with_split:
        text = (GOLDEN / "e2e" / "split_zhou_Caltech101.json").read_text()
        (base / "split_zhou_Caltech101.json").write_text(text)
    return base
