"""List, fetch and identify OpenAI's weights: `python -m clip weights [list|get|digest]`."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dassl.plain.console import run_command
from dassl.plain.writing import disk_failed

if TYPE_CHECKING:
    from .loading.releases import Release

EXAMPLES = """examples:
  python -m clip weights                       # names, sizes, what is on this machine, and the sources in order
  python -m clip weights get RN50              # fetch it from the first source that has it, and check it
  python -m clip weights get all --dir /shared/clip
  CLIP_MIRROR=https://mirror.example/clip/models python -m clip weights get ViT-B/16
  python -m clip weights digest ~/.cache/clip/RN50.pt

The folder is --dir or ~/.cache/clip.  docs/weights.md tells what the sources are and what is checked.
exit status: 0 done, 1 no source has it or the file is damaged, 2 bad command line.
"""


def build_parser() -> argparse.ArgumentParser:
    """Declare what stands behind `python -m clip weights`."""
    parser = argparse.ArgumentParser(
        prog="python -m clip weights", description="OpenAI's weights: where they are, and where to get them.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", default=None, metavar="DIR", help="folder of the weights")
    actions = parser.add_subparsers(dest="action", metavar="list|get|digest")
    actions.add_parser("list", help="list names, sizes and sources (the default)", description="List the releases.")
    get = actions.add_parser("get", help="fetch a release", description="Fetch releases and check them.")
    get.add_argument("names", nargs="+", metavar="NAME", help="RN50, ViT-B/16, ..., or all")
    digest = actions.add_parser("digest", help="identify a file by its tensors",
                                description="Show the digest of the tensors of files, and whose they are.")
    digest.add_argument("files", nargs="+", metavar="FILE", help="weights in any format that is read")
    digest.add_argument("--packaged", action="store_true",
                        help="for maintainers: record archives of OpenAI in the package instead of the folder")
    for action in actions.choices.values():
        action.add_argument("--dir", default=argparse.SUPPRESS, metavar="DIR", help="folder of the weights")
    return parser


def show(folder: Path) -> int:
    """Print a table of the releases, and the sources in the order in which they are asked; exit status 0."""
    from huggingface_hub import constants
    from tabulate import tabulate

    from .loading.digests import known_digest
    from .loading.download import MODELS_URL
    from .loading.hub import endpoint
    from .loading.releases import RELEASES

    rows = [
        [release.name, _tensor_bytes(release), _on_this_machine(release, folder),
         "known" if known_digest(release.name, folder) else "not known", release.repository]
        for release in RELEASES.values()
    ]  # fmt: skip
    print(tabulate(rows, headers=["name", "size", "on this machine", "tensor digest", "copy on the hub"],
                   disable_numparse=True))
    offline = " (not asked, since HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    print(f"""
sources, in order:
  {folder}
  the hub's cache
  mirror: {os.environ.get("CLIP_MIRROR") or "none (CLIP_MIRROR)"}
  {MODELS_URL} (answers 404 since the end of 2025)
  {endpoint()}{offline}""")
    return 0


def _tensor_bytes(release: Release) -> str:
    """Size of the tensors in the number formats of the archive, which is a little larger."""
    import torch

    from dassl.plain.text import shown_bytes

    from .loading.open_clip_table import constructor_arguments, open_clip_configs
    from .model import CLIP, convert_weights

    with torch.device("meta"):
        model = CLIP(**constructor_arguments(open_clip_configs()[release.architecture]))
    convert_weights(model)
    return shown_bytes(sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()))


def _on_this_machine(release: Release, folder: Path) -> str:
    """Say which files of a release there are; they are not read."""
    from .loading.files import OPEN_CLIP
    from .loading.hub import cached_file
    from .sources import by_hand, copy_path

    present = [path.name for path in (folder / release.file, copy_path(release, folder), by_hand(release, folder))
               if path.is_file()]
    if any(cached_file(release.repository, name) for name in OPEN_CLIP):
        present.append("the hub's cache")
    return ", ".join(present) or "-"


def get(names: list[str], folder: Path) -> int:
    """Fetch releases; exit status 1 where no source has one."""
    from .loading.releases import RELEASES
    from .sources import fetch

    unknown = [name for name in names if name not in (*RELEASES, "all")]
    if unknown:
        raise ValueError(f"no release named {', '.join(unknown)}; known: {', '.join(RELEASES)}, or all")
    failed = 0
    for name in RELEASES if "all" in names else names:
        try:
            print(f"{name}: {fetch(RELEASES[name], folder)}")
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


def digest(files: list[str], folder: Path, packaged: bool) -> int:
    """Print the tensor digest of files and whose they are, and record those of OpenAI's archives; exit status 0."""
    from .loading.digests import LOCAL, PACKAGED, known_digest, record_digest, tensor_digest
    from .loading.download import digest_of
    from .loading.releases import RELEASES
    from .loading.weights import read_weights

    for file in files:
        tensors = tensor_digest(read_weights(file, "quick_gelu").state_dict)  # which no activation enters
        sha256 = digest_of(file)
        archive = next((release for release in RELEASES.values() if release.sha256 == sha256), None)
        if archive is not None:
            table = PACKAGED if packaged else folder / LOCAL
            record_digest(archive.name, tensors, table)
            whose = f"OpenAI's archive of {archive.name}, recorded in {table}"
        else:
            same = [name for name in RELEASES if known_digest(name, folder) == tensors]
            whose = f"the same tensors as OpenAI's {same[0]}" if same else "none of the releases whose digest is known"
        print(f"{tensors}  {file}: {whose}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run a command line without the program's name; exit status as in the help text."""
    args = build_parser().parse_args(argv)
    from .sources import weights_folder  # which imports torch

    folder = weights_folder(args.dir)
    actions = {
        None: lambda: show(folder),
        "list": lambda: show(folder),
        "get": lambda: get(args.names, folder),
        "digest": lambda: digest(args.files, folder, args.packaged),
    }
    return run_command(actions[args.action], (OSError, ValueError, RuntimeError), _failed)


def _failed(error: Exception) -> bool:
    """Whether it is the machine or a file that is wrong, and not the command line."""
    return isinstance(error, RuntimeError) or disk_failed(error)
