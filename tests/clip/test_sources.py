"""clip/sources.py: OpenAI's weights from cache, mirror, address and hub, each of which may fail in its own way."""
from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

import clip
from clip import clip as clip_module
from clip import sources
from clip.__main__ import main
from clip.loading import digests, download, releases
from clip.loading.digests import LOCAL, known_digest, tensor_digest
from clip.loading.layout import SIZE_KEYS
from clip.loading.open_clip_table import constructor_arguments, open_clip_configs
from clip.loading.releases import RELEASES, Release
from clip.model import CLIP, build_model, convert_weights, sizes_of
from tests.support.fake_hub import LOGIN, FakeHub, set_constants
from tests.support.file_server import FileServer
from tests.support.programs import REPOSITORY

SIZES = {"embed_dim": 8, "image_resolution": 32, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 16,
         "context_length": 5, "vocab_size": 9, "transformer_width": 64, "transformer_heads": 1, "transformer_layers": 1}
CONFIG = {  # open_clip's, for these sizes
    "embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 64, "heads": 1, "layers": 1},
}  # fmt: skip
REPOSITORY_NAME = "timm/tiny_clip.openai"
FILE = "open_clip_model.safetensors"


class Addresses(FileServer):
    """Serves files by the first part of their addresses: openai, mirror."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def find(self, request):
        body = self.files.get(request.path.split("/")[1])
        return request.send_error(404) if body is None else body


@dataclass
class World:
    """A release of a tiny model, a server of archives, a hub, and an empty folder of weights."""

    release: Release
    archive: bytes
    state: dict[str, Tensor]  # the tensors of the archive
    server: Addresses
    hub: FakeHub
    folder: Path

    @property
    def repository(self) -> dict[str, bytes]:
        return self.hub.repos[REPOSITORY_NAME]

    def fetch(self) -> Path:
        return Path(clip_module._download(clip_module._MODELS["tiny"], self.folder))


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    """As an archive has it: matrices in float16, the rest in float32, and the sizes."""
    torch.manual_seed(seed)
    model = CLIP(**SIZES)
    convert_weights(model)
    sizes = {name: torch.tensor(SIZES.get(name, 32)) for name in SIZE_KEYS}
    return {name: tensor.clone() for name, tensor in model.state_dict().items()} | sizes


def weights_of(state: dict[str, Tensor], dtype: torch.dtype | None = torch.float32) -> dict[str, Tensor]:
    """As open_clip saves it: no sizes, one number format."""
    return {name: tensor.to(dtype or tensor.dtype) for name, tensor in state.items() if name not in SIZE_KEYS}


@pytest.fixture(scope="module")
def archive() -> tuple[dict[str, Tensor], bytes]:
    state, stream = state_dict(), BytesIO()
    torch.save(state, stream)
    return state, stream.getvalue()


@pytest.fixture
def world(tmp_path, monkeypatch, archive):
    state, data = archive
    release = Release("tiny", "tiny.pt", hashlib.sha256(data).hexdigest(), "tiny", REPOSITORY_NAME)
    with Addresses() as server, FakeHub({REPOSITORY_NAME: {FILE: save(weights_of(state))}}) as hub:
        hub.reach(monkeypatch, tmp_path / "hub")
        for module in (releases, download):
            monkeypatch.setattr(module, "MODELS_URL", f"{server.base}/openai")
        monkeypatch.delenv("CLIP_MIRROR", raising=False)
        monkeypatch.setitem(RELEASES, "tiny", release)
        monkeypatch.setitem(clip_module._MODELS, "tiny", release.url)
        monkeypatch.setattr(sources, "open_clip_configs", lambda: {"tiny": CONFIG})
        monkeypatch.setattr(digests, "PACKAGED", tmp_path / "packaged.json")
        yield World(release, data, state, server, hub, tmp_path / "weights")


def same(path: Path, state: dict[str, Tensor]) -> bool:
    """Whether a file reads, by torch alone, as these tensors in these number formats."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content.keys() == state.keys() and all(
        content[name].dtype == tensor.dtype and torch.equal(content[name], tensor) for name, tensor in state.items()
    )


# --- the order ---------------------------------------------------------------------------------------------


def test_the_archive_comes_from_openai_and_is_asked_for_once(world, capsys):
    world.server.files["openai"] = world.archive
    path = world.fetch()
    assert path == world.folder / "tiny.pt" and path.read_bytes() == world.archive
    assert capsys.readouterr().out == f"Weights of tiny: OpenAI's archive, from {world.release.url}\n"
    assert known_digest("tiny", world.folder) == tensor_digest(world.state)
    requests = len(world.server.requests)
    assert world.fetch() == path and len(world.server.requests) == requests and not world.hub.requests
    assert capsys.readouterr().out == ""  # as with every archive that is there


def test_the_mirror_is_asked_first_and_openai_where_it_fails(world, monkeypatch, capsys):
    monkeypatch.setenv("CLIP_MIRROR", f"{world.server.base}/mirror/")
    world.server.files["mirror"] = world.archive
    world.fetch()
    assert f"from mirror {world.server.base}/mirror/{world.release.sha256}/tiny.pt" in capsys.readouterr().out
    assert [path.split("/")[1] for path, _ in world.server.requests] == ["mirror"]
    world.server.files = {"openai": world.archive}
    (world.folder / "tiny.pt").unlink()
    world.fetch()
    assert [path.split("/")[1] for path, _ in world.server.requests] == ["mirror", "mirror", "openai"]


@pytest.mark.parametrize("failure", ["404", "403", "login page", "interrupted", "wrong file"])
def test_where_openai_fails_the_hub_has_it(world, failure, capsys):
    server = world.server
    server.files["openai"] = {"login page": LOGIN, "wrong file": world.archive[:-1] + b"?"}.get(failure, world.archive)
    server.status = int(failure) if failure.isdecimal() else 200
    server.cut = 0 if failure == "interrupted" else None
    path = world.fetch()
    assert path == world.folder / "tiny.hub.pt" and same(path, world.state)
    said = capsys.readouterr().out
    assert said.startswith(f"Weights of tiny: open_clip's copy, from {world.hub.base}/{REPOSITORY_NAME}; not compared")
    requests = len(server.requests) + len(world.hub.requests)
    assert world.fetch() == path and len(server.requests) + len(world.hub.requests) == requests
    assert capsys.readouterr().out == said  # in the log of every run on it


def test_trainers_read_a_copy_as_they_read_the_archive(world):
    """CoOp's loader: TorchScript, or else a state dict, into `build_model`."""
    path = world.fetch()
    with pytest.raises(RuntimeError):
        torch.jit.load(str(path), map_location="cpu")
    model = build_model(torch.load(path, map_location="cpu", weights_only=True))
    assert torch.equal(model.text_projection, world.state["text_projection"]) and model.dtype == torch.float16
    loaded = clip.load("tiny", device="cpu", download_root=str(world.folder))[0]
    assert loaded.activation == "quick_gelu" and torch.equal(loaded.text_projection, model.text_projection.float())
    assert clip.load_clip_to_cpu(path).dtype == torch.float16  # its path says as much as its name


@pytest.mark.parametrize("kind", ["safetensors of the archive's formats", "pickle", "older pickle"])
def test_the_hubs_copy_in_other_containers(world, kind):
    if kind == "safetensors of the archive's formats":
        world.repository[FILE] = save(weights_of(world.state, None))
    else:
        del world.repository[FILE]
        stream, state = BytesIO(), weights_of(world.state)
        torch.save({"state_dict": state | {"attn_mask": torch.zeros(5, 5)}} if "old" in kind else state, stream)
        world.repository["open_clip_pytorch_model.bin"] = stream.getvalue()
    assert same(world.fetch(), world.state)


def test_a_file_brought_by_hand_and_the_hubs_own_cache_need_no_network(world, monkeypatch, capsys):
    sources.fetch(world.release, world.folder / "other")  # leaves it in the hub's cache
    set_constants(monkeypatch, HF_HUB_OFFLINE=True)
    world.server.requests.clear()
    world.hub.requests.clear()
    assert same(world.fetch(), world.state)
    assert f"from the hub's cache, {REPOSITORY_NAME}" in capsys.readouterr().out
    third = world.folder.parent / "third"
    third.mkdir()
    (third / "tiny.safetensors").write_bytes(world.repository[FILE])
    assert same(sources.fetch(world.release, third), world.state)
    assert f"from {third / 'tiny.safetensors'}" in capsys.readouterr().out
    assert not world.server.requests and not world.hub.requests


def test_a_copy_that_has_changed_is_fetched_again(world):
    path = world.fetch()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="tiny.hub.pt is not used: it has changed since it was written"):
        assert same(world.fetch(), world.state)
    (world.folder / "tiny.hub.json").write_text("{}")
    with pytest.warns(UserWarning, match="tiny.hub.json cannot be read"):
        assert same(world.fetch(), world.state)


def test_a_folder_in_the_archives_place_is_an_error(world):
    (world.folder / "tiny.pt").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="tiny.pt exists and is not a regular file"):
        world.fetch()


# --- nothing has it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure, reason", [
    ("no repository", "there is no such repository"),
    ("no file", "it has neither open_clip_model.safetensors nor open_clip_pytorch_model.bin"),
    ("403", "403 Forbidden"),
    ("login page", "does not seem to be (served by|on) "),
    ("wrong file", "what came for open_clip_model.safetensors has not the SHA-256 .* that the hub states"),
    ("interrupted", "(?i)disconnected|connection|incomplete|peer closed"),
    ("offline", "HF_HUB_OFFLINE is set"),
])
def test_when_all_fail_each_source_says_why_and_what_to_put_where(world, monkeypatch, failure, reason):
    monkeypatch.setenv("CLIP_MIRROR", f"{world.server.base}/mirror")
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub, data = world.hub, world.repository[FILE]
    if failure == "no repository":
        hub.repos.clear()
    elif failure == "no file":
        world.repository.clear()
        world.repository["README.md"] = b""
    elif failure == "403":
        hub.status = 403
    elif failure == "offline":
        set_constants(monkeypatch, HF_HUB_OFFLINE=True)
    elif failure == "wrong file":
        hub.tampered[FILE] = data[:-1] + b"?"
    else:
        hub.login, hub.cut = failure == "login page", 0 if failure == "interrupted" else None
    with pytest.raises(RuntimeError) as caught:
        world.fetch()
    lines = str(caught.value).splitlines()
    assert lines[0] == "the weights of tiny cannot be had:"
    assert lines[1] == f"  {world.folder}: neither tiny.pt nor tiny.safetensors is there"
    assert lines[2].startswith("  the hub's cache: it has no ")
    assert lines[3].startswith(f"  mirror {world.server.base}/mirror/{world.release.sha256}/tiny.pt: HTTP Error 404")
    assert lines[4].startswith(f"  {world.release.url}: HTTP Error 404")
    assert lines[5].startswith(f"  {hub.base}/{REPOSITORY_NAME}: ")
    assert re.search(reason, lines[5]), lines[5]
    assert str(world.folder / "tiny.pt") in lines[7] and world.release.sha256 in lines[7]
    assert str(world.folder / "tiny.safetensors") in lines[8] and REPOSITORY_NAME in lines[8]
    assert not list(world.folder.glob("tiny.*")) if world.folder.exists() else True
    hub.tampered.clear()
    hub.repos[REPOSITORY_NAME] = {FILE: data}
    hub.status, hub.login, hub.cut = 200, False, None
    if failure != "offline":  # nothing that was thrown away is taken up again
        assert same(world.fetch(), world.state)


def test_without_a_mirror_it_says_so(world):
    world.hub.repos.clear()
    with pytest.raises(RuntimeError, match="mirror: CLIP_MIRROR names none"):
        world.fetch()


# --- what is no copy ---------------------------------------------------------------------------------------


def other_architecture(state):
    state["visual.positional_embedding"] = torch.zeros(10, 64)


def an_entry_less(state):
    del state["ln_final.bias"]


def not_finite(state):
    state["visual.proj"][0, 0] = float("nan")


def trained_further(state):
    state["visual.proj"] += 1e-5


def another_model(state):
    return state.update(weights_of(state_dict(seed=1)))


@pytest.mark.parametrize("change, problem", [
    (other_architecture, r"it is another architecture \(ViT .*48 pixels"),
    (an_entry_less, r"1 missing \(ln_final.bias\)"),
    (not_finite, "visual.proj holds numbers that are not finite"),
    (trained_further, "visual.proj holds numbers that OpenAI's archive cannot hold, whose matrices are float16"),
])
def test_what_cannot_be_a_copy_is_refused(world, change, problem):
    state = {name: tensor.clone() for name, tensor in weights_of(world.state).items()}
    change(state)
    world.repository[FILE] = save(state)
    with pytest.raises(RuntimeError, match=f"{FILE} is not used: .*{problem}"):
        world.fetch()


def test_where_the_archive_was_seen_a_copy_must_have_its_tensors(world, capsys):
    world.server.files["openai"] = world.archive
    world.fetch().unlink()  # its tensor digest stays
    world.server.files.clear()
    another = {name: tensor.clone() for name, tensor in weights_of(world.state).items()}
    another_model(another)
    right, world.repository[FILE] = world.repository[FILE], save(another)
    with pytest.raises(RuntimeError, match="is not used: its tensors are not those of OpenAI's archive"):
        world.fetch()
    world.repository[FILE] = right
    capsys.readouterr()
    world.fetch()
    assert "its tensors are those of OpenAI's archive" in capsys.readouterr().out


def test_a_copy_is_not_used_once_the_archive_shows_that_it_is_another(world, monkeypatch):
    another = {name: tensor.clone() for name, tensor in weights_of(world.state).items()}
    another_model(another)
    right, world.repository[FILE] = world.repository[FILE], save(another)
    world.fetch()  # nothing tells it apart yet
    digests.record_digest("tiny", tensor_digest(world.state), world.folder / LOCAL)
    world.repository[FILE] = right
    with pytest.warns(UserWarning, match="tiny.hub.pt is not used: its tensors are not those of OpenAI's archive"):
        path = world.fetch()
    assert same(path, world.state)


def test_a_copy_in_half_precision_throughout_says_that_it_was_rounded(world, capsys):
    world.repository[FILE] = save(weights_of(world.state, torch.float16))
    world.fetch()
    assert "its source was rounded to half precision" in capsys.readouterr().out


# --- digests -----------------------------------------------------------------------------------------------


def test_the_tensor_digest_is_of_values_names_and_shapes_alone():
    state = state_dict()
    digest = tensor_digest(state)
    assert digest == tensor_digest(weights_of(state)) == tensor_digest(dict(reversed(state.items())))
    turned = state | {"visual.proj": state["visual.proj"].T.contiguous().T}
    assert tensor_digest(turned | {"attn_mask": torch.zeros(5, 5)}) == digest
    flat = state | {"visual.proj": state["visual.proj"].reshape(8, 64)}
    moved = {name.replace("ln_pre", "ln_per"): tensor for name, tensor in state.items()}
    assert len({digest, tensor_digest(flat), tensor_digest(moved), tensor_digest(state_dict(1))}) == 4
    assert tensor_digest(weights_of(state, torch.bfloat16)) != digest


# --- the table of releases ---------------------------------------------------------------------------------


def test_the_table_is_open_clips():
    from open_clip.pretrained import get_pretrained_cfg

    for release in RELEASES.values():
        published = get_pretrained_cfg(release.architecture, "openai")
        assert published["url"].rsplit("/", 2)[1:] == [release.sha256, release.file]
        if published["hf_hub"]:  # older versions have none
            assert published["hf_hub"].rstrip("/") == release.repository


def test_the_sizes_of_every_release_are_in_open_clips_table():
    for release in RELEASES.values():
        sizes = constructor_arguments(open_clip_configs()[release.architecture])
        with torch.device("meta"):
            assert sizes_of(CLIP(**sizes).state_dict()) == sizes, release.name


# --- the command -------------------------------------------------------------------------------------------


def test_the_command_lists_and_fetches(world, capsys, monkeypatch):
    folder = ["--dir", str(world.folder)]
    assert main(["weights", "get", "tiny", *folder]) == 0
    assert f"tiny: {world.folder / 'tiny.hub.pt'}" in capsys.readouterr().out
    monkeypatch.setenv("CLIP_MIRROR", "https://mirror.example")
    configs = {**open_clip_configs(), "tiny": CONFIG}
    monkeypatch.setattr("clip.loading.open_clip_table.open_clip_configs", lambda: configs)
    assert main(["weights", *folder]) == 0
    table, _, order = capsys.readouterr().out.partition("sources, in order:")
    rows = {row.split()[0]: row for row in table.splitlines()[2:] if row}
    assert set(rows) == {*RELEASES} and "255.3 MB" in rows["RN50"] and "timm/resnet50_clip.openai" in rows["RN50"]
    assert "tiny.hub.pt, the hub's cache" in rows["tiny"] and "not known" in rows["tiny"]
    assert "mirror: https://mirror.example" in order and world.hub.base in order
    world.hub.repos.clear()
    assert main(["weights", "get", "ViT-B/99", *folder]) == 2
    assert "no release named ViT-B/99; known: RN50, " in capsys.readouterr().err
    (world.folder / "tiny.hub.pt").unlink()
    set_constants(monkeypatch, HF_HUB_CACHE=str(world.folder))
    assert main(["weights", "get", "tiny", *folder]) == 1
    assert "error: the weights of tiny cannot be had:" in capsys.readouterr().err


def test_the_command_identifies_files(world, capsys, tmp_path):
    archive, copy = tmp_path / "a.pt", tmp_path / "b.safetensors"
    archive.write_bytes(world.archive)
    copy.write_bytes(world.repository[FILE])
    folder = ["--dir", str(world.folder)]
    assert main(["weights", "digest", str(copy), *folder]) == 0
    assert f"{tensor_digest(world.state)}  {copy}: none of the releases" in capsys.readouterr().out
    assert main(["weights", "digest", str(archive), str(copy), "--packaged", *folder]) == 0
    said = capsys.readouterr().out
    assert "OpenAI's archive of tiny, recorded in" in said and f"{copy}: the same tensors as OpenAI's tiny" in said
    assert json.loads(digests.PACKAGED.read_text()) == {"tiny": tensor_digest(world.state)}


def test_the_hubs_settings_are_read_from_the_environment(world, tmp_path):
    """In a process of its own, since its client reads them when it is imported."""
    program = "from clip.loading.hub import fetch_file; import sys; print(fetch_file(*sys.argv[1:]))"
    command = [sys.executable, "-c", program, REPOSITORY_NAME, FILE]

    def run(**more):
        environment = {**os.environ, **world.hub.environment(tmp_path / "own"), **more}
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)

    offline = run(HF_HUB_OFFLINE="1")
    assert offline.returncode and "HubError: HF_HUB_OFFLINE is set" in offline.stderr and not world.hub.requests
    done = run()
    assert done.returncode == 0 and Path(done.stdout.strip()).is_relative_to(tmp_path / "own"), done.stderr
    requests = len(world.hub.requests)
    assert run(HF_HUB_OFFLINE="1").stdout == done.stdout and len(world.hub.requests) == requests
