"""The recorded cases, one test each; and that the check itself can fail."""
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.__main__ import find_cases, main
from tests.conformance.cases import Unsupported, check
from tests.golden_data import GOLDEN, read_npz

CASES = list(find_cases([str(GOLDEN)]))


def test_every_kind_of_case_is_found():
    kinds = {case.parent.name for case in CASES}
    assert {"plot", "plotpp", "coop", "zeroshot", "sinkhorn", "training", "fewshot", "golden", "e2e"} <= kinds


@pytest.mark.parametrize("case", CASES, ids=[str(case.relative_to(GOLDEN)) for case in CASES])
def test_case(case):
    try:
        comparisons = list(check(case))
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert comparisons
    assert not [c for c in comparisons if not c.passed]


def copy_with(case: Path, target: Path, name: str, change) -> Path:
    with np.load(case) as file:
        arrays = {key: file[key] for key in file.files}
    arrays[name] = change(arrays[name])
    np.savez(target, **arrays)
    return target


def test_a_case_from_elsewhere_runs_and_a_wrong_number_is_seen(tmp_path, capsys):
    case = GOLDEN / "plot" / "end_N2_ctx4.npz"
    same = copy_with(case, tmp_path / "same.npz", "logits", lambda x: x)
    wrong = copy_with(case, tmp_path / "wrong.npz", "logits", lambda x: x * (1 + 3e-4))
    assert main([str(same)]) == 0
    assert main([str(wrong)]) == 1
    assert "FAIL logits" in capsys.readouterr().out
    tokens = copy_with(case, tmp_path / "tokens.npz", "tokenized_prompts", lambda x: np.where(x == 343, 344, x))
    assert main([str(tokens)]) == 1
    shape = copy_with(case, tmp_path / "shape.npz", "grad_ctx", lambda x: x[:1])
    assert main([str(shape)]) == 1


def test_prompts_of_another_length_than_any_recorded(tmp_path):
    """A case that the project has not seen: made here from a recorded one, by the plain 77-token formula in float64."""
    arrays, meta = read_npz(GOLDEN / "plot" / "end_N4_ctx4.npz")
    arrays["ctx"] = arrays["ctx"][::-1].copy()  # the prompts in another order permute what depends on them
    order = [n * 7 + c for n in reversed(range(4)) for c in range(7)]
    arrays["text_features_raw"] = arrays["text_features_raw"][order]
    arrays["sim"], arrays["T"] = arrays["sim"][:, ::-1], arrays["T"][:, :, ::-1]
    arrays["grad_ctx"] = arrays["grad_ctx"][::-1]
    np.savez(tmp_path / "permuted.npz", __meta__=json.dumps(meta), **arrays)
    assert main([str(tmp_path / "permuted.npz")]) == 0


def test_prompted_images_in_another_order(tmp_path, capsys):
    """PLOT++: visual and text prompts reordered, which reorders what depends on them and leaves the scores."""
    case = GOLDEN / "plotpp" / "vit_a_caltech_N4_M4.npz"
    arrays, meta = read_npz(case)
    vision, text = [2, 0, 3, 1], [1, 0, 2, 3]
    for name in ("ctx_vision", "image_features_raw", "grad_ctx_vision"):
        arrays[name] = arrays[name][vision]
    for name in ("ctx", "grad_ctx"):
        arrays[name] = arrays[name][text]
    for name in ("tokenized_prompts", "text_features_raw"):
        arrays[name] = arrays[name].reshape(4, 7, -1)[text].reshape(28, -1)
    arrays["sim"], arrays["T"] = arrays["sim"][vision][:, text], arrays["T"][:, vision][:, :, text]
    meta["ctx_init"] = False  # the templates are in another order too
    np.savez(tmp_path / "permuted.npz", __meta__=json.dumps(meta), **arrays)
    assert main([str(tmp_path / "permuted.npz")]) == 0
    assert main([str(copy_with(case, tmp_path / "wrong.npz", "grad_ctx_vision", lambda x: x * 1.01))]) == 1
    assert "FAIL grad_ctx_vision" in capsys.readouterr().out


def test_nothing_to_check_is_no_success(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "absent.npz")]) == 2
    assert "absent.npz" in capsys.readouterr().err
    (tmp_path / "noise.npz").write_bytes(b"no archive")
    assert main([str(tmp_path / "noise.npz")]) == 1
