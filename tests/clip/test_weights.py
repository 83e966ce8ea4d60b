"""clip/loading/weights.py and clip.load: the same weights in every wrapping, and others refused."""
from __future__ import annotations

import hashlib
import json
import pickle
import re
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Tuple  # noqa: UP035 (TorchScript reads annotations)

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import clip
from clip import clip as clip_module
from clip.loading import open_clip_table
from clip.loading import weights as weights_module
from clip.loading.layout import SIZE_KEYS
from clip.loading.open_clip_table import oddities, open_clip_configs, open_clip_name
from clip.loading.published import fetch_open_clip
from clip.loading.releases import RELEASES
from clip.loading.torchscript import read_torchscript
from clip.loading.weights import read_weights
from clip.model import CLIP, PIXEL_MEAN, build_model
from dassl.utils import load_checkpoint
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN, read_npz, tiny_state_dict

TINY = ("tiny_rn", "tiny_vit")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state_dicts() -> dict[str, dict[str, Tensor]]:
    return {name: tiny_state_dict(name) for name in TINY}


def small_state() -> dict[str, Tensor]:
    """A state dict that is quick to write; its vocabulary is no CLIP's, which matters to open_clip only."""
    torch.manual_seed(1)
    return CLIP(embed_dim=8, image_resolution=32, vision_layers=1, vision_width=64, vision_patch_size=16,
                context_length=5, vocab_size=9, transformer_width=64, transformer_heads=1,
                transformer_layers=1).state_dict()


def features(model: CLIP) -> Tensor:
    size = model.visual.input_resolution
    images = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    with torch.no_grad():
        return model.float().encode_image(images)


def torchscript(state: dict[str, Tensor], path: Path) -> Path:
    """An archive as OpenAI's: the traced model, with its sizes as entries of the state dict."""
    model = build_model(state)
    size, length = model.visual.input_resolution, model.context_length
    with torch.no_grad():
        tokens = torch.zeros(1, length, dtype=torch.long)
        tokens[0, 1] = model.vocab_size - 1
        model.float()
        for name, value in zip(SIZE_KEYS, (size, length, model.vocab_size), strict=True):
            if hasattr(model, name):
                delattr(model, name)
            model.register_buffer(name, torch.tensor(value))
        with warnings.catch_warnings():  # TorchScript is deprecated, but OpenAI's archives are what they are
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(model, (torch.zeros(1, 3, size, size), tokens), check_trace=False)
    traced.save(str(path))
    return path


def write(kind: str, state: dict[str, Tensor], path: Path) -> Path:
    if kind == "torchscript":
        return torchscript(state, path)
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file({key: value.contiguous() for key, value in state.items()}, path)
        return path
    content = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "optimizer": {"lr": 0.1, "steps": [1, 2]}},
        "module": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "compiled": {f"_orig_mod.module.{key}": value for key, value in state.items()},
    }[kind.removesuffix("-old")]
    torch.save(content, path, _use_new_zipfile_serialization=not kind.endswith("-old"))
    return path


@pytest.mark.parametrize("kind", ["torchscript", "plain", "plain-old", "state_dict", "model", "module",
                                  "compiled", "safetensors"])
@pytest.mark.parametrize("name", TINY)
def test_every_wrapping_gives_the_same_model(kind, name, tmp_path, state_dicts):
    path = write(kind, state_dicts[name], tmp_path / "weights.pt")
    model = clip.load_clip_to_cpu(path)
    assert not model.training and model.activation == "quick_gelu"
    arrays, meta = read_npz(next((GOLDEN / "coop").glob(f"{name[5:]}_*.npz")))
    want = arrays["image_features_raw"]
    images = torch.from_numpy(read_npz(GOLDEN / "inputs" / Path(meta["images"]).name)[0]["images"]).float()
    with torch.no_grad():
        got = model.float().encode_image(images)
    assert_close(got, want)


def test_a_trainers_own_way_of_loading_works(tmp_path, state_dicts):
    """As CoOp's family does it: TorchScript first, its state dict into `build_model`."""
    path = torchscript(state_dicts["tiny_vit"], tmp_path / "tiny.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    model = clip_module.build_model(state)
    assert set(SIZE_KEYS) <= set(state)
    assert torch.equal(features(model), features(build_model(state_dicts["tiny_vit"])))


# --- clip.load ------------------------------------------------------------------------------------------

def test_load_computes_in_float32_on_the_cpu(tmp_path):
    state = {key: value.half() for key, value in small_state().items()}
    torch.save(state, tmp_path / "half.pt")
    assert clip.load_clip_to_cpu(tmp_path / "half.pt").dtype == torch.float16
    model, preprocess = clip.load(str(tmp_path / "half.pt"), device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
    image = preprocess(Image.new("L", (50, 40), 128))
    assert image.shape == (3, 32, 32)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    want = (128 / 255 - torch.tensor(mean)) / torch.tensor(std)
    assert torch.allclose(image.mean(dim=(1, 2)), want)
    assert pickle.loads(pickle.dumps(preprocess))(Image.new("RGB", (32, 32))).shape == (3, 32, 32)
    assert model.encode_image(image[None]).shape == (1, 8)


def test_float32_weights_are_not_rounded(tmp_path):
    state = small_state()
    torch.save(state, tmp_path / "full.pt")
    path = tmp_path / "full.pt"
    for model in (clip.load_clip_to_cpu(path), clip.load(str(path), device="cpu")[0]):
        assert model.dtype == torch.float32 and torch.equal(model.text_projection, state["text_projection"])


def test_jit_is_ignored_with_a_warning(tmp_path):
    torch.save(small_state(), tmp_path / "a.pt")
    with pytest.warns(UserWarning, match="jit=True is ignored"):
        clip.load(str(tmp_path / "a.pt"), device="cpu", jit=True)


def test_published_models():
    names = clip.available_models()
    assert names == ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14",
                     "ViT-L/14@336px"]
    digest = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
    base = "https://openaipublic.azureedge.net/clip/models"
    assert clip_module._MODELS["RN50"] == f"{base}/{digest}/RN50.pt"
    for url in clip_module._MODELS.values():
        assert re.fullmatch(rf"{base}/[0-9a-f]{{64}}/[\w-]+\.pt", url)


def test_a_published_name_is_looked_for_in_the_download_root(tmp_path, monkeypatch):
    state = small_state()
    torch.save(state, tmp_path / "RN50.pt")
    digest = hashlib.sha256((tmp_path / "RN50.pt").read_bytes()).hexdigest()
    monkeypatch.setitem(clip_module._MODELS, "RN50", f"https://127.0.0.1:9/{digest}/RN50.pt")
    model, _ = clip.load("RN50", device="cpu", download_root=str(tmp_path))
    assert torch.equal(model.text_projection, state["text_projection"])


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(RuntimeError, match="no CLIP model named 'ViT-B16'.*did you mean 'ViT-B/16'.*RN50x4"):
        clip.load("ViT-B16", device="cpu")
    with pytest.raises(RuntimeError, match="no file there.*'hf://openai/clip-vit-base-patch32'"):
        clip.load_clip_to_cpu(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match="no weights file at .* folder without any of .*model.safetensors"):
        clip.load_clip_to_cpu(tmp_path)
    with pytest.raises(ValueError, match="'hf://a/b/c' is not hf://USER/REPOSITORY"):
        clip_module.check_model_name("hf://a/b/c")


@pytest.mark.parametrize("name", clip_module._PACKAGED)
def test_the_demo_models_load_or_say_how_to_make_them(monkeypatch, name):
    assert clip.load_clip_to_cpu(name).vocab_size == 49408
    monkeypatch.setitem(clip_module._PACKAGED, name, Path("nowhere/demo.safetensors"))
    with pytest.raises(RuntimeError, match=f"'{name}' are not at nowhere.*demo/train_resnet.py.*demo/train_vit.py"):
        clip.load_clip_to_cpu(name)


# --- files that must not be loaded ----------------------------------------------------------------------

def test_nothing_is_unpickled_that_could_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": small_state(), "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(RuntimeError, match="could run code"):
        clip.load_clip_to_cpu(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(RuntimeError, match=rf"{name} .*(cannot be read|is damaged)"):
        clip.load_clip_to_cpu(tmp_path / name)
    torch.save(small_state(), tmp_path / "whole.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-500])
    with pytest.raises(RuntimeError, match="torn.pt"):
        clip.load_clip_to_cpu(tmp_path / "torn.pt")


@pytest.mark.parametrize("content, message", [
    ([1, 2], "holds a list"),
    ({"epoch": 3}, "holds no tensors.*epoch"),
    ({"fc.weight": torch.zeros(2, 2)}, "has no 'visual.conv1.weight'"),
    ({"state_dict": {"ctx": torch.zeros(4, 8)}}, "prompt learner"),
    ({"visual.trunk.stem.weight": torch.zeros(2)}, "image tower of timm"),
    ({"text.transformer.weight": torch.zeros(2)}, "CustomTextCLIP"),
    ({"text_decoder.a": torch.zeros(2), "visual.conv1.weight": torch.zeros(2)}, "CoCa"),
    ({"vision_model.a": torch.zeros(2)}, "transformers' CLIPModel has no entry 'vision_model.a'"),
    ({"visual.trunk.a": torch.zeros(2), "logit_bias": torch.zeros(())}, "timm|SigLIP"),
])
def test_other_models_are_recognised(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises((RuntimeError, ValueError), match=rf"other.pt.*({message})"):
        clip.load_clip_to_cpu(tmp_path / "other.pt")


def test_entries_that_do_not_fit_name_the_file_and_the_architecture(tmp_path):
    state = small_state()
    del state["visual.proj"]
    state["visual.layer1.0.conv1.weight"] = torch.zeros(64, 3, 1, 1)
    state["visual.attnpool.positional_embedding"] = torch.zeros(5, 2048)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(RuntimeError, match=r"odd.pt: .*ResNet \(1, 0, 0, 0\).*missing \(visual.* unexpected"):
        clip.load_clip_to_cpu(tmp_path / "odd.pt")


# --- TorchScript archives without TorchScript -------------------------------------------------------------

class Part(nn.Module):
    """Attributes of every kind that such a module may have."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t()[:2])
        self.register_buffer("unsaved", torch.ones(2), persistent=False)
        self.count, self.text, self.numbers, self.words = 3, "x", [1, 2], ["a"]
        self.fractions, self.table, self.pair = [0.5], {"a": 1}, (1, torch.zeros(1))
        self.tensors, self.plain = [torch.zeros(1)], torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        more = self.tensors[0] + self.pair[1] + self.plain[0] + self.fractions[0] + self.table["a"] + self.numbers[0]
        return self.norm(x) + self.turned[:, 0] + self.unsaved + self.count + more


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(nn.Linear(2, 2), Part())
        self.list = nn.ModuleList([self.seq[0], nn.Linear(2, 2)])  # the first lies in two places
        self.short = nn.Parameter(torch.randn(2).half())
        self.tied = nn.Parameter(self.seq[0].weight.detach()[1])  # within the same storage
        self.register_parameter("missing", None)
        self.input_resolution = nn.Parameter(torch.tensor(224.0), requires_grad=False)
        self.register_buffer("context_length", torch.tensor(77))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.list:
            x = part(x)
        return self.seq(x) + self.short + self.tied


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_an_archive_is_read_as_torchscript_reads_it(tmp_path, how):
    path, model = tmp_path / "model.pt", Whole().eval()
    archive = torch.jit.script(model) if how == "script" else torch.jit.trace(model, torch.zeros(2, 2))
    torch.jit.save(archive, str(path))
    expected = torch.jit.load(str(path)).state_dict()
    found = read_torchscript(path)
    assert list(found) == list(expected) and "list.0.weight" in found and "seq.1.norm.running_var" in found
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].stride() == tensor.stride(), name
        assert torch.equal(found[name], tensor), name
    assert found["short"].dtype == torch.float16
    assert found["tied"].data_ptr() == found["seq.0.weight"][1].data_ptr()


class Writes(nn.Module):
    """Restores itself by filling a file."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.written = torch.zeros(8)

    @torch.jit.export
    def __getstate__(self) -> Tuple[str, bool]:  # noqa: UP006 (TorchScript reads annotations)
        return (self.target, self.training)

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]) -> None:  # noqa: UP006
        self.target, self.training = state[0], state[1]
        file = torch.from_file(state[0], True, 8, dtype=torch.uint8)
        file.fill_(65)
        self.written = file.clone()

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def armed(tmp_path) -> tuple[Path, Path]:
    """(an archive that writes into a file when it is loaded, the file)"""
    target, path = tmp_path / "precious.txt", tmp_path / "model.pt"
    target.write_text("precious")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(1, 1), Writes(str(target)))), str(path))
    target.write_text("precious")  # scripting has run it once
    return path, target


def test_the_code_of_an_archive_never_runs(armed):
    path, target = armed
    for read in (read_weights, clip.load_clip_to_cpu, load_checkpoint):
        with pytest.raises(RuntimeError, match=r"model.pt was refused.*nothing was executed"):
            read(path)
    assert target.read_text() == "precious"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path))
    assert target.read_text() == "AAAAAAAA"  # the weapon does work


def test_on_another_engine_only_openais_archives_are_read(armed, tmp_path, monkeypatch, state_dicts):
    path, target = armed
    monkeypatch.setitem(sys.modules, "dassl.utils.safe_load", None)
    with pytest.raises(RuntimeError, match="model.pt is a TorchScript archive and none of OpenAI's"):
        read_weights(path)
    assert target.read_text() == "precious"
    known = torchscript(state_dicts["tiny_vit"], tmp_path / "tiny.pt")
    digest = hashlib.sha256(known.read_bytes()).hexdigest()
    monkeypatch.setitem(RELEASES, "RN50", replace(RELEASES["RN50"], sha256=digest))
    assert read_weights(known).state_dict.keys() >= set(SIZE_KEYS)
    torch.save(small_state(), tmp_path / "plain.pt")
    assert read_weights(tmp_path / "plain.pt").state_dict.keys() == small_state().keys()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_archives_that_do_not_end_are_refused(tmp_path):
    """A module that is part of itself, and 40 levels of one that has the next one twice."""
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(1, 1))), str(path))
    with zipfile.ZipFile(path) as archive:
        container = archive.read("model/data.pkl")[2:].partition(b"q\x00")[0] + b")\x81"  # its class
    own = b"\x80\x02" + container + b"q\x00}X\x01\x00\x00\x000h\x00sb."
    twice = b"}(X\x01\x00\x00\x000%sX\x01\x00\x00\x001%sub"
    many = b"\x80\x02" + container + b"}bq\x00"
    for level in range(40):
        previous = b"h" + bytes([level])
        many += container + twice % (previous, previous) + b"q" + bytes([level + 1])
    for pickled in (own, many + b"."):
        with pytest.raises(RuntimeError, match="does not end"):
            read_torchscript(repacked(path, tmp_path / "endless.pt", pickled))


def repacked(path: Path, target: Path, pickled: bytes) -> Path:
    """The archive with another data.pkl."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("/data.pkl") else old.read(name))
    return target


# --- open_clip ------------------------------------------------------------------------------------------

PLAIN = {"RN50", "RN50-quickgelu", "ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-plus-240",
         "ViT-L-14", "ViT-L-14-336", "RN50x64", "ViT-B-32-256"}
OTHER = {"ViT-H-14": "head_width=80", "ViT-g-14": "head_width=88", "ViT-bigG-14": "mlp_ratio=4.9231",
         "coca_ViT-B-32": "multimodal_cfg", "ViT-B-16-SigLIP": "timm_model_name",
         "convnext_base": "timm_model_name",
         "roberta-ViT-B-32": "hf_model_name", "ViT-L-14-CLIPA": "pool_type"}


def test_which_of_open_clips_architectures_are_openais():
    configs = open_clip_configs()
    assert len(configs) > 80
    assert {name: oddities(configs[name]) for name in PLAIN} == {name: [] for name in PLAIN}
    for name, reason in OTHER.items():
        assert any(reason in oddity for oddity in oddities(configs[name])), name


def test_a_file_with_the_sizes_of_another_architecture_is_refused(tmp_path, monkeypatch):
    """ViT-H/14 has OpenAI's names and shapes but heads of width 80; here with its own small stand-in."""
    config = {"embed_dim": 8, "vision_cfg": {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
              "text_cfg": {"width": 64, "heads": 1, "layers": 1}}
    monkeypatch.setattr(open_clip_table, "open_clip_configs", lambda: {"ViT-tiny": config})
    torch.save(small_state(), tmp_path / "h.pt")
    with pytest.raises(ValueError, match=r"h.pt: .*head_width=32 \(according to open_clip's ViT-tiny"):
        read_weights(tmp_path / "h.pt")
    plain = config | {"vision_cfg": config["vision_cfg"] | {"head_width": 64}}
    monkeypatch.setattr(open_clip_table, "open_clip_configs", lambda: {"ViT-tiny": config, "plain": plain})
    with pytest.raises(ValueError, match=r"h.pt: nothing .* models of its sizes \(plain\) are published with either"):
        read_weights(tmp_path / "h.pt")
    assert read_weights(tmp_path / "h.pt", "gelu").activation == "gelu"


def test_vit_h_is_refused_by_its_sizes():
    with torch.device("meta"):
        huge = CLIP(1024, 224, 32, 1280, 14, 77, 49408, 1024, 16, 24).state_dict()
    with pytest.raises(ValueError, match="head_width=80"):
        weights_module._known_architectures(huge)


@pytest.mark.parametrize("name, facts, want", [
    ("vit_b_16-laion400m_e32-55e67d44.pt", {}, "gelu"),
    ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", {}, "quick_gelu"),
    ("ViT-B-32.pt", {}, "quick_gelu"),
    ("open_clip_model.safetensors", {}, None),
    ("epoch_32.pt", {"name": "run", "epoch": 32}, None),
])
def test_the_activation_is_found_out_or_asked_for(tmp_path, name, facts, want):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(small_state(), path)
    else:
        torch.save({"state_dict": small_state(), **facts} if facts else small_state(), path)
    if name == "ViT-B-32.pt":  # a file's name is no evidence, and nobody publishes such sizes
        with pytest.warns(UserWarning, match="ViT-B-32.pt does not tell .* quick_gelu is assumed"):
            assert clip.load_clip_to_cpu(path).activation == want
    elif want:
        assert clip.load_clip_to_cpu(path).activation == want
    else:
        with pytest.raises(ValueError, match="say activation='quick_gelu' .* 'gelu' .* MODEL.BACKBONE.ACTIVATION"):
            clip.load_clip_to_cpu(path)
    assert clip.load_clip_to_cpu(path, activation="gelu").activation == "gelu"


def test_the_config_beside_a_file_from_the_hub_is_asked(tmp_path):
    path, beside = tmp_path / "open_clip_model.safetensors", tmp_path / "open_clip_config.json"
    save_file(small_state(), path)
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}
    for entry, want in (({}, "gelu"), ({"quick_gelu": True}, "quick_gelu")):
        beside.write_text(json.dumps({"model_cfg": config | entry}))
        assert read_weights(path).activation == want
    assert clip.load_clip_to_cpu(path).pixel_mean == PIXEL_MEAN
    pixels = {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    beside.write_text(json.dumps({"model_cfg": config, **pixels}))
    model, preprocess = clip.load(path, device="cpu")
    assert (model.pixel_mean, model.pixel_std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert preprocess.transforms[-1].mean == (0.5, 0.5, 0.5)
    beside.write_text(json.dumps({"model_cfg": config | {"vision_cfg": {"timm_model_name": "x"}}}))
    with pytest.raises(ValueError, match="timm_model_name"):
        read_weights(path)
    beside.write_text("{}")
    with pytest.raises(ValueError, match="no config of open_clip"):
        read_weights(path)


def test_the_activation_may_stand_in_safetensors_metadata(tmp_path):
    save_file(small_state(), tmp_path / "a.safetensors", metadata={"activation": "gelu"})
    assert clip.load_clip_to_cpu(tmp_path / "a.safetensors").activation == "gelu"
    with pytest.raises(ValueError, match="no activation 'relu'"):
        clip.load_clip_to_cpu(tmp_path / "a.safetensors", activation="relu")


def test_release_names_tell_the_activation_as_open_clips_table_does():
    from open_clip import pretrained

    seen = 0
    for model, tag in pretrained.list_pretrained():
        config, published = open_clip_configs().get(model), pretrained.get_pretrained_cfg(model, tag)
        name = Path(published.get("url", "")).name
        if config and not oddities(config) and re.search(r"-[0-9a-f]{8}\.pt$", name):
            seen += 1
            quick = published.get("quick_gelu", "quickgelu" in name)  # older tables do not say
            told = weights_module._activation(Path(name), {}, {}, None, {})
            assert told == ("quick_gelu" if quick else "gelu"), (model, tag)
    assert seen > 10


def test_an_open_clip_name_goes_through_its_table_and_download(tmp_path, monkeypatch):
    from open_clip import pretrained

    asked = []

    def download(published, cache_dir=None, **_):
        asked.append((published["hf_hub"], cache_dir))
        torch.save(small_state(), tmp_path / "open_clip_pytorch_model.bin")
        return str(tmp_path / "open_clip_pytorch_model.bin")

    monkeypatch.setattr(pretrained, "download_pretrained", download)
    model = clip.load_clip_to_cpu("ViT-B-32/laion2b_s34b_b79k")
    assert model.activation == "gelu" and asked == [("laion/CLIP-ViT-B-32-laion2B-s34B-b79K/", None)]
    for name in ("RN50-quickgelu/openai", "RN50/openai", "ViT-B-32-quickgelu/laion400m_e32", "RN50/yfcc15m"):
        assert clip.load_clip_to_cpu(name).activation == "quick_gelu"
    model, preprocess = clip.load("ViT-L-14/laion2b_s32b_b82k", device="cpu", download_root=str(tmp_path))
    assert asked[-1][1] == str(tmp_path)
    assert model.pixel_mean == (0.5, 0.5, 0.5) and preprocess.transforms[-1].mean == (0.5, 0.5, 0.5)

    def offline(*args, **kwargs):
        raise FileNotFoundError("no network")

    monkeypatch.setattr(pretrained, "download_pretrained", offline)
    with pytest.raises(RuntimeError, match=r"laion/CLIP-ViT-B-32.*no network.*path as the name.*'gelu'"):
        clip.load_clip_to_cpu("ViT-B-32/laion2b_s34b_b79k")


def test_open_clip_names():
    assert open_clip_name("ViT-B-32/laion2b_s34b_b79k") == ("ViT-B-32", "laion2b_s34b_b79k")
    assert open_clip_name("ViT-B/32") is None and open_clip_name("RN50") is None
    with pytest.raises(ValueError, match="no weights 'laion2b' for ViT-B-32.*known: openai"):
        fetch_open_clip("ViT-B-32", "laion2b")
    with pytest.raises(ValueError, match="head_width=80 .according to open_clip's ViT-H-14"):
        fetch_open_clip("ViT-H-14", "laion2b_s32b_b79k")  # clip.load builds it by open_clip's modules
