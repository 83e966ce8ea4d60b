from __future__ import annotations

import textwrap
from ast import literal_eval

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

from dassl.config import ConfigError, clean_cfg, get_cfg_default, merge_file, merge_options, split_equals
from tests.support.golden_data import GOLDEN

# what that run configured; every other value in its listing is a default
CONFIGURED = """
DATALOADER.NUM_WORKERS DATALOADER.TEST.BATCH_SIZE DATALOADER.TRAIN_X.BATCH_SIZE DATASET.NAME DATASET.NUM_SHOTS
DATASET.ROOT INPUT.INTERPOLATION INPUT.PIXEL_MEAN INPUT.PIXEL_STD INPUT.SIZE INPUT.TRANSFORMS MODEL.BACKBONE.NAME
OPTIM.LR OPTIM.LR_SCHEDULER OPTIM.MAX_EPOCH OPTIM.NAME OPTIM.WARMUP_EPOCH OPTIM.WARMUP_TYPE OUTPUT_DIR SEED
TRAIN.PRINT_FREQ TRAINER.NAME
""".split()  # noqa: SIM905


OURS = {"OPTIM.EPS"}  # keys that the original does not have; several public plugins do


def recorded_config() -> tuple[str, dict]:
    """The configuration that a run of the original printed: the text, and {dotted key: value}."""
    text = (GOLDEN / "e2e/logs/coop_train.log.txt").read_text()
    block = text.split("** Config **\n************\n")[1].split("\nCollecting env info")[0].rstrip("\n")
    values = {}
    for key, value in leaves(yaml.safe_load(block)):
        try:  # tuples and 1e-05 are text to YAML
            values[key] = literal_eval(value) if isinstance(value, str) else value
        except (ValueError, SyntaxError):
            values[key] = value
    return block, {key: "" if value is None else value for key, value in values.items()}


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- the tree --------------------------------------------------------------------------------------------


def test_the_tree_has_the_originals_keys_and_defaults_and_prints_like_it():
    block, recorded = recorded_config()
    own = dict(leaves(get_cfg_default()))
    plugins = {key for key in recorded if key.split(".")[:2] in (["TRAINER", "COOP"], ["TRAINER", "COCOOP"])}
    assert set(recorded) - plugins == (set(own) - OURS) | {"DATASET.SUBSAMPLE_CLASSES"}
    for key in set(own) - set(CONFIGURED) - OURS:
        assert (own[key], type(own[key])) == (recorded[key], type(recorded[key])), key

    cfg = get_cfg_default()
    cfg.DATASET.SUBSAMPLE_CLASSES = ""
    for key in plugins:
        cfg.TRAINER.setdefault(key.split(".")[1], CfgNode())
    for key, value in recorded.items():
        node = cfg
        for part in key.split(".")[:-1]:
            node = node[part]
        node[key.split(".")[-1]] = value
    del cfg.OPTIM["EPS"]
    assert str(cfg) == block


def test_defaults_of_note():
    cfg = get_cfg_default()
    assert cfg.SEED == -1 and cfg.INPUT.SIZE == (224, 224) and cfg.OPTIM.STEPSIZE == (-1,)
    assert cfg.OPTIM.SGD_DAMPNING == 0 and type(cfg.OPTIM.SGD_DAMPNING) is int
    assert cfg.TEST.FINAL_MODEL == "last_step" and cfg.TRAINER.MEANTEACHER.RAMPUP == 5
    assert cfg.DATASET.get("SUBSAMPLE_CLASSES") is None


def test_copies_are_fresh_and_behave_like_dictionaries():
    cfg = get_cfg_default()
    cfg.DEVICE = "cuda:0"  # plugins add keys before freezing
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    assert cfg["DEVICE"] == "cuda:0" and "COOP" in cfg.TRAINER.keys()  # noqa: SIM118
    cfg.TRAINER.pop("COOP")
    cfg.OPTIM.LR = 1.0
    assert "DEVICE" not in get_cfg_default() and get_cfg_default().OPTIM.LR == 0.0003
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.OPTIM.LR = 2.0


def test_clean_cfg_keeps_one_trainer():
    cfg = get_cfg_default()
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    clean_cfg(cfg, "CoOp")
    assert set(cfg.TRAINER) == {"NAME", "COOP"}


# --- plain yacs, as plugins use it -----------------------------------------------------------------------


def test_plain_yacs_rules_hold(tmp_path):
    cfg = get_cfg_default()
    path = tmp_path / "x.yaml"
    path.write_text("INPUT:\n  SIZE: (128, 96)\n  TRANSFORMS: ['a', 'b']\nOPTIM:\n  LR: 1e-5\n")
    cfg.merge_from_file(str(path))
    assert (cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS, cfg.OPTIM.LR) == ((128, 96), ("a", "b"), 1e-5)
    path.write_text("OPTIM:\n  LRR: 1e-5\n")
    with pytest.raises(KeyError, match="Non-existent config key: OPTIM.LRR"):
        cfg.merge_from_file(str(path))
    with pytest.raises(AssertionError, match="Non-existent key: OPTIM.LRR"):
        cfg.merge_from_list(["OPTIM.LRR", "1.0"])
    wrong = ("OPTIM.LR", "1"), ("OPTIM.MAX_EPOCH", "1.5"), ("OPTIM.STEPSIZE", "5"), ("VERBOSE", "false")
    for key, value in wrong:
        with pytest.raises(ValueError, match="Type mismatch"):
            cfg.merge_from_list([key, value])


# --- our merging -----------------------------------------------------------------------------------------


def test_merge_options():
    cfg = get_cfg_default()
    options = ["INPUT.SIZE", "[96, 96]", "OPTIM.LR", "1e-5", "VERBOSE", "False", "DATASET.ROOT", "~/data"]
    options += ["DATASET.NAME", "'123'", "OPTIM.LR", "2e-5", "INPUT.TRANSFORMS", ["a"], "SEED", 0]
    assert merge_options(cfg, options) == set(options[0::2])
    assert cfg.INPUT.SIZE == (96, 96) and cfg.OPTIM.LR == 2e-5 and cfg.VERBOSE is False and cfg.SEED == 0
    assert cfg.DATASET.ROOT == "~/data" and cfg.DATASET.NAME == "123" and cfg.INPUT.TRANSFORMS == ("a",)
    assert merge_options(cfg, []) == set()


def test_a_whole_number_will_do_for_a_float(tmp_path):
    cfg = get_cfg_default()
    merge_options(cfg, ["OPTIM.LR", "1", "OPTIM.GAMMA", 2, "OPTIM.WEIGHT_DECAY", "0"])
    merge_file(cfg, write(tmp_path / "a.yaml", "OPTIM:\n  MOMENTUM: 1\nTRAINER: {MME: {LMDA: 3}}\n"))
    found = [cfg.OPTIM.LR, cfg.OPTIM.GAMMA, cfg.OPTIM.WEIGHT_DECAY, cfg.OPTIM.MOMENTUM, cfg.TRAINER.MME.LMDA]
    assert found == [1, 2, 0, 1, 3] and {type(value) for value in found} == {float}


def test_keys_with_an_equals_sign():
    cfg = get_cfg_default()
    options = ["OPTIM.LR=0.5", "DATASET.ROOT", "a=b", "INPUT.SIZE=(8, 8)", "DATASET.NAME=x=y", "VERBOSE", "False"]
    assert split_equals(options)[::2] == ["OPTIM.LR", "DATASET.ROOT", "INPUT.SIZE", "DATASET.NAME", "VERBOSE"]
    merge_options(cfg, [*options, "OPTIM.NAME="])
    assert (cfg.OPTIM.LR, cfg.DATASET.ROOT, cfg.INPUT.SIZE, cfg.DATASET.NAME) == (0.5, "a=b", (8, 8), "x=y")
    assert cfg.VERBOSE is False and cfg.OPTIM.NAME == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["OPTIM.LRR", "1.0"], "there is no key OPTIM.LRR (on the command line); did you mean OPTIM.LR?"),
        (["optim.max_epoch", "3"], "did you mean OPTIM.MAX_EPOCH?"),
        (["TRAIN.MAX_EPOCH", "3"], "did you mean OPTIM.MAX_EPOCH?"),
        (["DATASETS.NUM_SHOT", "4"], "did you mean DATASET.NUM_SHOTS?"),
        (["OPTIM.LR.X", "1.0"], "there is no key OPTIM.LR.X"),
        (["OPTIM.LR", "high"], "OPTIM.LR on the command line got 'high' (str) but needs a number (float)"),
        (["OPTIM.LR", "True"], "OPTIM.LR on the command line got True (bool) but needs a number (float)"),
        (["OPTIM.LRR=0.1"], "there is no key OPTIM.LRR (on the command line); did you mean OPTIM.LR?"),
        (["OPTIM.LR=high"], "OPTIM.LR on the command line got 'high' (str)"),
        (["OPTIM.LR=1.0", "VERBOSE"], "'VERBOSE', the last option on the command line, has no value"),
        (["OPTIM.LR=1.0", "--seed=1"], "--seed=1 on the command line comes after a KEY VALUE pair"),
        (["OPTIM.MAX_EPOCH", "50.0"], "got 50.0 (float) but needs a whole number (int); write 50"),
        (["OPTIM.MAX_EPOCH", "-2.0"], "got -2.0 (float) but needs a whole number (int); it must be 0 or more"),
        (["OPTIM.STEPSIZE", "5"], "write (5,)"),
        (["INPUT.TRANSFORMS", "normalize"], "write ('normalize',)"),
        (["INPUT.SIZE", "224"], "needs a tuple (tuple), such as (224, 224)"),
        (["VERBOSE", "false"], "needs True or False (bool); write False"),
        (["DATASET.NAME", "123"], "needs text (str); quote it twice"),
        (["OPTIM.LR", "None"], "OPTIM.LR on the command line has no value"),
        (["INPUT.SIZE", "{1, 2}"], "needs a tuple (tuple)"),
        (["OPTIM", "3"], "OPTIM on the command line is a section, not a value; its keys: ADAM_BETA1"),
        (["OPTIM.LR"], "'OPTIM.LR', the last option on the command line, has no value"),
        (["OPTIM.LR", "1.0", "--seed", "1"], "--seed on the command line comes after a KEY VALUE pair"),
        (["OPTIM.LR", "1.0", "--eval-only"], "--eval-only on the command line comes after"),
    ],
)  # fmt: skip
def test_bad_options_say_what_to_do(options, message):
    cfg = get_cfg_default()
    with pytest.raises(ConfigError) as caught:
        merge_options(cfg, ["SEED", "7", *options])
    assert message in str(caught.value)
    assert cfg == get_cfg_default()  # nothing was merged, not even the good pair


def test_a_frozen_tree_is_refused():
    cfg = get_cfg_default()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        merge_options(cfg, ["SEED", "1"])


def write(path, text):
    path.write_text(textwrap.dedent(text))
    return path


def test_merge_file(tmp_path):
    cfg = get_cfg_default()
    path = write(tmp_path / "a.yaml", """
        # a comment
        INPUT:
          SIZE: (96, 96)
          TRANSFORMS: ["random_flip", "normalize"]
        OPTIM: &optim
          LR: 1e-3
          STEPSIZE: [3, 5]
          WEIGHT_DECAY: 5e-4
        TRAIN:
        DATASET: {NAME: Caltech101, NUM_SHOTS: 16}
        VERBOSE: false
    """)  # fmt: skip
    keys = merge_file(cfg, path)
    assert cfg.INPUT.SIZE == (96, 96) and cfg.INPUT.TRANSFORMS == ("random_flip", "normalize")
    assert cfg.OPTIM.LR == 1e-3 and cfg.OPTIM.STEPSIZE == (3, 5) and cfg.VERBOSE is False
    assert cfg.DATASET.NAME == "Caltech101" and cfg.DATASET.NUM_SHOTS == 16
    assert keys == {"INPUT.SIZE", "INPUT.TRANSFORMS", "OPTIM.LR", "OPTIM.STEPSIZE", "OPTIM.WEIGHT_DECAY",
                    "DATASET.NAME", "DATASET.NUM_SHOTS", "VERBOSE"}  # fmt: skip
    assert merge_file(cfg, write(tmp_path / "empty.yaml", "# nothing\n")) == set()


def test_both_ways_of_merging_agree(tmp_path):
    path = write(tmp_path / "x.yaml", """
        INPUT: {SIZE: "(1, 2)", PIXEL_MEAN: [0.1, 0.2, 0.3], INTERPOLATION: "bicubic"}
        OPTIM: {LR: 0.002, NAME: "sgd", MAX_EPOCH: 200, STEPSIZE: "(-1,)"}
    """)  # fmt: skip
    plain, own = get_cfg_default(), get_cfg_default()
    plain.merge_from_file(str(path))
    merge_file(own, path)
    assert plain == own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OPTIM:\n  LR: 1e-3\n  MAX_EPOK: 3\n", "no key OPTIM.MAX_EPOK (in {path}, line 3); did you mean "),
        ("OPTIM:\n  LR: true\n", "OPTIM.LR in {path}, line 2 got True (bool) but needs a number (float)"),
        ("OPTIM:\n  LR:\n", "OPTIM.LR in {path}, line 2 has no value"),
        ("OPTIM: 3\n", "OPTIM in {path}, line 1 is a section"),
        ("OPTIM:\n  LR: {X: 1.0}\n", "there is no key OPTIM.LR.X"),
        ("OPTIM: [\n", "{path} is not valid YAML"),
        ("- a\n- b\n", "{path} must hold KEY: value lines, found a list"),
        ("caltech101\n", "{path} must hold KEY: value lines, found a single value"),
        ("SEED: !!python/object/apply:os.system ['true']\n", "SEED in {path}, line 1"),
    ],
)
def test_bad_files_name_file_and_line(tmp_path, text, message):
    path = write(tmp_path / "bad.yaml", text)
    cfg = get_cfg_default()
    with pytest.raises(ConfigError) as caught:
        merge_file(cfg, path)
    assert message.format(path=path) in str(caught.value)
    assert cfg == get_cfg_default()


def test_a_missing_file_suggests_a_neighbour(tmp_path):
    (tmp_path / "caltech101.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"caltech_101.yaml; did you mean .*caltech101.yaml\?"):
        merge_file(get_cfg_default(), tmp_path / "caltech_101.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"DATASET:\n  NAME: \xe9\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        merge_file(get_cfg_default(), tmp_path / "latin.yaml")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_option_ends_in_another_kind_of_error(key, value):
    cfg = get_cfg_default()
    for name in (key, "DATASET.NAME", "OPTIM.LR", "INPUT.SIZE"):
        try:
            merge_options(cfg, [name, value])
        except ConfigError as error:
            assert str(error)
