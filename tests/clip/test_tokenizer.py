"""clip/simple_tokenizer.py and clip.tokenize: known ids, and open_clip's tokenizer as a second opinion."""
from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import clip
from clip.simple_tokenizer import (
    END,
    START,
    SimpleTokenizer,
    _clean,
    _open_clip_tokenizer,
    default_bpe,
    default_tokenizer,
)
from clip.tokens import ClipTokens
from tests.support.golden_data import GOLDEN

VECTORS = {
    "a photo of a": [320, 1125, 539, 320],
    "a photo of a dog.": [320, 1125, 539, 320, 1929, 269],
    "this is a tench.": [589, 533, 320, 1149, 634, 269],
    "X X X": [343] * 3,
    "Hello   World!": [3306, 1002, 256],
    "don't 123": [847, 713, 272, 273, 274],
    "2012 Audi TTS Coupe": [273, 271, 272, 273, 10277, 11570, 16773],
    "café naïve": [15304, 1097, 35689, 563],
    "日本": [39121, 19277, 361],
    "&lt;b&gt;": [283, 321, 285],
    "": [],
    " \n\t": [],
    "<|startoftext|>x<|ENDOFTEXT|>": [49406, 343],  # completed below: the end token in any case
}


@pytest.mark.parametrize("text", VECTORS)
def test_known_ids(text):
    want = VECTORS[text] + ([49407] if "ENDOFTEXT" in text else [])
    assert default_tokenizer().encode(text) == want


def test_recorded_ids():
    recorded = json.loads((GOLDEN / "tokens.json").read_text())["ids"]
    assert len(recorded) > 20
    assert {text: default_tokenizer().encode(text) for text in recorded} == recorded


def test_vocabulary():
    tokenizer = SimpleTokenizer()
    assert len(tokenizer.encoder) == len(tokenizer.decoder) == 49408 and len(tokenizer.bpe_ranks) == 48894
    assert (tokenizer.encoder["!"], tokenizer.encoder["a</w>"]) == (0, 320)
    assert (tokenizer.encoder[START], tokenizer.encoder[END]) == (49406, 49407)
    assert all(tokenizer.decoder[index] == symbol for symbol, index in tokenizer.encoder.items())
    assert sorted(tokenizer.byte_encoder) == list(range(256))
    assert all(tokenizer.byte_decoder[c] == b for b, c in tokenizer.byte_encoder.items())
    digest = hashlib.sha256(Path(default_bpe()).read_bytes()).hexdigest()
    assert digest == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def test_a_merge_file_can_be_given_and_a_tokenizer_sent_to_another_process():
    tokenizer = SimpleTokenizer(default_bpe())
    assert tokenizer.encoder == default_tokenizer().encoder
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("a photo of a dog.") == VECTORS["a photo of a dog."]
    assert tokenizer.bpe("photo") == "photo</w>"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_encoded_as_open_clip_does(text):
    if "start" in text or "end" in text:
        return  # the names of the special tokens differ
    assert default_tokenizer().encode(text) == _open_clip_tokenizer().SimpleTokenizer.encode(
        _open_clip_tokenizer()._tokenizer, text)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=30))
def test_the_short_way_of_cleaning_equals_the_long_one(text):
    slow = _open_clip_tokenizer().get_clean_fn("lower")
    assert _clean(text, slow) == slow(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12), max_size=6))
def test_words_come_back_with_a_space_after_each(words):
    tokenizer = default_tokenizer()
    assert tokenizer.decode(tokenizer.encode(" ".join(words))) == "".join(f"{word} " for word in words)


# --- tokenize -------------------------------------------------------------------------------------------

def test_tokenize_frames_and_pads():
    tokens = clip.tokenize(["a photo of a dog.", ""])
    assert tokens.shape == (2, 77) and tokens.dtype == torch.int64
    assert tokens[0].tolist() == [49406, *VECTORS["a photo of a dog."], 49407] + [0] * 69
    assert tokens[1, :3].tolist() == [49406, 49407, 0]
    assert torch.equal(clip.tokenize("a photo of a dog."), tokens[:1])
    assert torch.equal(tokens.argmax(dim=-1), torch.tensor([7, 1]))
    assert clip.tokenize([]).shape == (0, 77)


def test_what_is_too_long_is_named_or_cut():
    fits, long = " ".join("x" * 75), " ".join("x" * 76)
    assert clip.tokenize(fits)[0, -1] == 49407
    with pytest.raises(RuntimeError, match=r"Input 'x x .*x' is too long for context length 77.*truncate="):
        clip.tokenize(["short", long])
    cut = clip.tokenize(long, truncate=True)[0].tolist()
    assert cut == [49406] + [343] * 75 + [49407]
    cut = clip.tokenize("a b c", context_length=4, truncate=True)[0].tolist()
    assert cut == [49406, 320, 321, 49407]


def test_importing_clip_imports_neither_open_clip_nor_torchvision():
    code = ("import sys, clip, clip.simple_tokenizer as s; s.SimpleTokenizer(); "
            "print([m for m in ('open_clip', 'torchvision', 'timm', 'transformers') if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_words_read_as_the_tokenizer_shows_them():
    for text in ("photo", "!", "é", "naïve", "日"):
        ids = clip.tokenize([text])[0, 1:].long().tolist()
        end = ids.index(49407)
        assert "".join(word for word in map(ClipTokens().spell, ids[:end]) if "\\x" not in word) in text
    assert ClipTokens().spell(clip.tokenize(["photo"])[0, 1].item()) == "photo"
    assert ClipTokens().spell(49406) == "<|startoftext|>"
    assert ClipTokens().spell(default_tokenizer().encoder["Ã"]) == "\\xc3"  # the first byte of two
