"""Worlds with knobs: each changes what it says and nothing else, and on disk a world is a data set of folders."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest

from clip import tokenize
from clip.clip import load_clip_to_cpu
from datasets.loaders.folder import split_from_folders
from demo import __main__, worlds
from demo.canvas import SIZE, SUPERSAMPLE
from demo.worlds import SIGNS, World, draw_world, house_name, sign_places, world_scene, write_world

SEEDS = [f"test/{number}" for number in range(6)]
HOUSES = World(share=0.8, parts=3)


def pixels(scene) -> np.ndarray:
    return np.asarray(scene.image, dtype=int)


def changed(first: World, second: World, seed: str, label: int = 3) -> np.ndarray:
    """(side, side) bool: where two worlds' pictures differ before they are finished."""
    pictures = [np.asarray(draw_world(label, seed, world).image) for world in (first, second)]
    return (pictures[0] != pictures[1]).any(axis=2)


# ---- what decides a picture
@pytest.mark.parametrize("world", [World(), HOUSES], ids=["things", "houses"])
def test_seed_label_and_world_decide_a_picture(world):
    first = pixels(world_scene(2, "a", world))
    assert (first == pixels(world_scene(2, "a", world))).all()
    others = [world_scene(2, "b", world), world_scene(5, "a", world)]
    assert all((first != pixels(other)).any() for other in others)
    assert first.shape == (SIZE, SIZE, 3)


def test_share_is_the_area_of_the_square():
    for share in (0.05, 0.2, 0.6):
        thing = draw_world(0, "a", World(share=share)).things[0]
        assert (2 * thing.scale) ** 2 == pytest.approx(share)
        assert thing.scale <= thing.x <= 1 - thing.scale and thing.scale <= thing.y <= 1 - thing.scale
    covered = [np.mean([draw_world(1, seed, World(share=share)).whole.mean() for seed in SEEDS])
               for share in (0.1, 0.2, 0.4)]  # fmt: skip
    assert covered[1] / covered[0] == pytest.approx(2, rel=0.15)  # of pixels, too, but for contours
    assert covered[2] / covered[1] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_clutter_changes_what_is_around_the_thing(seed):
    """Scribbles lie behind, and those of fewer are among those of more."""
    none, few, many = (World(clutter=count) for count in (0, 4, 12))
    visible = draw_world(3, seed, none).visible
    assert not (changed(none, many, seed) & visible).any()
    assert 0 < changed(none, few, seed).sum() < changed(none, many, seed).sum()


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_occlusion_hides_that_share_of_the_thing_and_nothing_else(share):
    for seed in SEEDS[:3]:
        hidden = draw_world(3, seed, World(occlusion=share))
        assert hidden.visible.sum() / hidden.whole.sum() == pytest.approx(1 - share, rel=0.002)
        differs = changed(World(), World(occlusion=share), seed)
        assert not (differs & ~hidden.whole).any() and not (differs & hidden.visible).any()


def test_company_is_of_another_class_smaller_and_behind():
    world = World(objects=2)
    for seed in SEEDS[:3]:
        drawing = draw_world(3, seed, world)
        thing, company = drawing.things
        assert company.name != thing.name == world.classes[3] and company.name in world.classes
        assert company.scale == pytest.approx(worlds.COMPANY * thing.scale)
        assert not (changed(World(), world, seed) & drawing.visible).any()


# ---- houses
@pytest.mark.parametrize("count", SIGNS)
def test_houses_differ_only_in_their_signs(count):
    classes = SIGNS[count]
    assert len(set(classes)) == 12 and {len(signs) for signs in classes} == {count}
    forms = {tuple(form for form, _ in signs) for signs in classes}
    assert len(forms) == (2 if count == 1 else 1)
    for one in range(count):  # without this sign, classes cannot be told apart
        assert len({signs[:one] + signs[one + 1:] for signs in classes}) < 12
    colours = [{signs[one][1] for signs in classes} for one in range(count)]
    assert not any(first & second for first, second in combinations(colours, 2))


def test_two_houses_of_a_seed_differ_at_their_signs():
    world = World(share=0.8, parts=2)
    first, second = (draw_world(label, "a", world) for label in (0, 1))
    differs = (np.asarray(first.image) != np.asarray(second.image)).any(axis=2)
    rows, columns = np.nonzero(differs)
    side = SIZE * SUPERSAMPLE
    reach = 1.6 * worlds.SIGN * first.things[0].scale
    near_a_sign = np.zeros(len(rows), bool)
    for part in first.things[0].parts[2:]:
        near_a_sign |= np.hypot(columns / side - part.x, rows / side - part.y) < reach
    flat = np.abs(np.asarray(first.image, int) - np.asarray(second.image, int)).max(axis=2)[rows, columns]
    assert near_a_sign[flat > 60].all() and (flat > 60).any()


def spread(spots) -> list[float]:
    return [np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in combinations(spots, 2)]


@pytest.mark.parametrize("count", [2, 3])
def test_near_signs_touch_and_far_ones_do_not(count):
    for number in range(20):
        near, far = (sign_places(count, near, Random(number)) for near in (True, False))
        assert max(spread(near)) <= 1.5 * worlds.STEP < 1.05 < min(spread(far))
        assert min(spread(near)) >= 2 * worlds.SIGN  # none covers another
        for x, y in (*near, *far):
            assert abs(x) + worlds.SIGN <= 1 and y - worlds.SIGN >= -0.8 and y + worlds.SIGN <= 1  # on the wall


def test_the_knob_near_moves_signs_and_nothing_else():
    near, far = (draw_world(4, "a", World(share=0.8, parts=2, near=near)) for near in (True, False))
    assert [(part.name, part.colour) for part in near.things[0].parts] == [
        (part.name, part.colour) for part in far.things[0].parts
    ]
    outside = ~(near.whole | far.whole)
    assert (np.asarray(near.image)[outside] == np.asarray(far.image)[outside]).all()


def test_the_demo_clip_knows_the_words():
    table = load_clip_to_cpu("demo-rn").token_embedding.weight.abs().sum(dim=1)
    names = [house_name(signs) for classes in SIGNS.values() for signs in classes]
    tokens = tokenize([f"a photo of a {name}." for name in names])
    assert (table[tokens[tokens > 0]] > 0).all()


# ---- the class, the command, the folder
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shares=1", "no knob 'shares'; it has share, clutter"),
        ("share=2", "share of a world must be a number from 0.02 to 1, got 2"),
        ("clutter=some", "clutter=some: clutter is of the kind int"),
        ("parts=1,near=true", "near of a world must be False unless parts is 2 or more"),
        ("occlusion=1", "occlusion of a world must be"),
        ("objects=3", "objects of a world must be 1 or 2, got 3"),
    ],
)
def test_bad_knobs_are_refused(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        World.parse(text)
    with pytest.raises(SystemExit):
        __main__.main(["--world", text, "--root", "nowhere"])
    assert text.partition("=")[0] in capsys.readouterr().err


def test_knobs_are_read_and_name_the_folder():
    assert World.parse("") == World() and World().name == "world"
    world = World.parse("share=0.8,parts=2,near=true")
    assert world == World(share=0.8, parts=2, near=True) and world.name == "world-share0.8-parts2-near1"


def test_a_world_on_disk_is_a_data_set_of_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(worlds, "IMAGES_PER_CLASS", {"train": 2, "val": 1, "test": 1})
    world = World(parts=2, share=0.8)
    assert __main__.main(["--world", "parts=2,share=0.8", "--root", str(tmp_path)]) == 0
    assert "48 images drawn" in capsys.readouterr().out
    folder = tmp_path / world.name
    train, val, test = split_from_folders(str(folder), lambda items: items)
    assert [len(part) for part in (train, val, test)] == [24, 12, 12]
    assert [item.classname.replace("_", " ") for item in val] == list(world.classes)

    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}
    assert write_world(tmp_path, world, progress=False) == 0
    damaged, *_ = before
    Path(damaged).write_bytes(b"torn")
    assert write_world(tmp_path, world, progress=False) == 1
    assert before == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}
