"""Read a checkpoint file without running what is in it, and notice where it was damaged.

`torch.save` writes a zip archive: a pickle, and the bytes of each storage in a member of its own, with a checksum;
until 2020 it wrote pickles and bytes one after the other, without any. The pickles are read by `pickle_machine`, which
calls nothing that they name; scheduler and optimiser objects, which checkpoints of the original engine hold, and
parsed command lines, which those of GalLoP and SOT-GLP hold, become inert. No file can ask for more memory than a small
multiple of its own size.
"""
from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import struct
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from .pickle_machine import Inert, Machine, Maker, Refused, lengths
from .tools import StrPath, path_hint

__all__ = ["Archive", "CheckpointError", "Inert", "UnsafeCheckpointError", "load_file", "reading"]

STAND_INS = ("torch.optim", "dassl.optim", "argparse", "gallop", "sot_glp")
REPEATED = 8  # a file's tensors may show its bytes so many times over, as expanded and tied ones do
SMALL = 2**26  # bytes: and this much they may in any case
LEGACY = (0x1950A86A20F9469CFC6C, 1001)  # what files in the old format begin with: magic number, version
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64, "UntypedStorage": torch.uint8,
}  # fmt: skip
DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


class CheckpointError(RuntimeError):
    """A file that cannot be used as a checkpoint: damaged, incomplete, or something else."""


class UnsafeCheckpointError(CheckpointError):
    """A file that would run code when read. It was not read any further."""


# --- tensors ---------------------------------------------------------------------------------------------


class _StorageType(NamedTuple):
    """What stands for a class like torch.FloatStorage."""

    dtype: torch.dtype


class _Storage(NamedTuple):
    """The numbers that tensors show parts of: their type, and their bytes (uint8)."""

    dtype: torch.dtype
    data: Tensor


VALUES = {
    f"{module}.{name}": _StorageType(dtype)
    for name, dtype in STORAGES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
} | DTYPES


class _Tensors:
    """Makes the tensors of one file, whose size bounds what they may be.

    A pickle of a few bytes can ask for a tensor that repeats one number a billion times (stride 0), and whoever copies
    it then needs gigabytes.

    Attributes
    ----------
    left : int
        Bytes that further tensors may take.
    """

    def __init__(self, file_size: int) -> None:
        self.left = REPEATED * file_size + SMALL

    def makers(self) -> dict[str, Maker | None]:
        """Return what the pickles of tensors name, for a `Machine`."""
        return {
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.tensor_of_type,
            "torch._utils._rebuild_parameter": self.parameter,
            "torch._utils._rebuild_parameter_with_state": self.parameter,
            "torch.Size": lambda sizes=(): torch.Size(sizes),
            "torch.device": lambda kind, *index: torch.device(kind, *index),
        }

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, gradient: Any = False, hooks: Any = None,
        metadata: Any = None,
    ) -> Tensor:  # fmt: skip
        """Make a tensor of its storage's type; the arguments are those of torch's function."""
        return self.tensor_of_type(storage, offset, size, stride, gradient, hooks, storage.dtype, metadata)

    def tensor_of_type(
        self, storage: Any, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, dtype: Any,
        metadata: Any = None,
    ) -> Tensor:  # fmt: skip
        """Make a tensor that lies within its storage, which torch's own function would enlarge.

        Parameters
        ----------
        storage : _Storage
            The numbers.
        offset, size, stride : int, tuple, tuple
            Which of them, in numbers and not in bytes.
        gradient : bool
            Whether the tensor requires a gradient.
        hooks, metadata : object
            Hooks are ignored, and other metadata than none is refused.
        dtype : torch.dtype
            The type of the tensor's numbers.
        """
        if type(storage) is not _Storage or not isinstance(dtype, torch.dtype) or metadata:
            raise pickle.UnpicklingError("a tensor of an unknown kind")
        size, stride, (offset,) = lengths(size), lengths(stride), lengths([offset])
        empty = 0 in size
        # the last number that the tensor shows, counted from 1
        reach = 0 if empty else offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if reach * dtype.itemsize > storage.data.numel():
            raise pickle.UnpicklingError("a tensor that is longer than its storage")
        self.left -= dtype.itemsize * math.prod(size)
        if self.left < 0:
            raise pickle.UnpicklingError("tensors that repeat a few numbers, and would take far more than the file")
        tensor = torch.empty(0, dtype=dtype).set_(storage.data.untyped_storage(), 0 if empty else offset, size, stride)
        return tensor.requires_grad_(gradient is True)

    def parameter(self, data: Any, gradient: Any, *_: Any) -> Tensor:
        """Make a parameter of a tensor."""
        if not isinstance(data, Tensor):
            raise pickle.UnpicklingError("a parameter that is no tensor")
        return torch.nn.Parameter(data, gradient is True)


# --- archives --------------------------------------------------------------------------------------------


class Archive:
    """A zip archive as torch.save and torch.jit.save write it; the checksum of every member that is read is compared.

    Parameters
    ----------
    file : binary file
        Open, and on disk: its size bounds what it may become.
    stand_ins : tuple of str
        Modules whose objects become inert, see `Machine`.
    """

    def __init__(self, file: IO[bytes], stand_ins: tuple[str, ...] = STAND_INS) -> None:
        self.zip = zipfile.ZipFile(file)
        self.size = os.fstat(file.fileno()).st_size
        self.stand_ins = stand_ins
        members = self.zip.infolist()
        if sum(member.compress_size for member in members) > self.size:
            raise zipfile.BadZipFile("its members are longer than the file")
        for member in members:
            if member.CRC == 0:  # written with torch.serialization.set_crc32_options(False): nothing to compare with
                del member.CRC
        self.members = {member.filename.partition("/")[2]: member for member in members}
        self.storages: dict[Any, Tensor] = {}
        self.swapped = "byteorder" in self.members and self.read("byteorder") == b"big"

    def read(self, name: str, limit: int = 0) -> bytes:
        """Return a member's bytes.

        Members with numbers are never compressed. One that is, is refused where it becomes larger than `limit` bytes.
        """
        member = self.members[name]
        stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
        if not stored and member.file_size > limit:
            raise zipfile.BadZipFile(f"{name} is compressed, to {member.compress_size:,} of {member.file_size:,} bytes")
        return self.zip.read(member)

    def unpickle(self, makers: Mapping[str, Maker | None] | None = None) -> Any:
        """Return what data.pkl holds; `makers` of more than tensors are as for a `Machine`."""
        known = {**_Tensors(self.size).makers(), **(makers or {})}
        return Machine(known, VALUES, self.stand_ins, self.storage).run(io.BytesIO(self.read("data.pkl")))

    def storage(self, pickled: Any) -> _Storage:
        """Return what a persistent id, (word, type, key, place, count), stands for; it is read once."""
        _, (dtype,), key, _, count = pickled
        if type(key) is not str:
            raise pickle.UnpicklingError("a storage without a name")
        if key not in self.storages:
            content = self.read(f"data/{key}")
            if len(content) != count * dtype.itemsize:
                raise zipfile.BadZipFile(f"data/{key} has {len(content):,} bytes, not {count * dtype.itemsize:,}")
            self.storages[key] = _bytes(content)
            if self.swapped:
                self.storages[key].untyped_storage().byteswap(dtype)
        return _Storage(dtype, self.storages[key])


def _bytes(content: bytes) -> Tensor:
    """Copy bytes into memory of torch's own, which is aligned as its kernels expect."""
    data = torch.empty(len(content), dtype=torch.uint8)
    data.numpy().data[:] = content
    return data


# --- files in the old format -----------------------------------------------------------------------------


def _load_stream(file: io.BytesIO) -> Any:
    """Read a file in the old format.

    It is pickles, one after the other: magic number, version, machine, content, keys of the storages; then the storages
    in that order, each as its count of numbers and their bytes.
    """
    size = file.getbuffer().nbytes
    storages: dict[Any, _Storage] = {}

    def storage(pickled: Any) -> _Storage:
        _, (dtype,), key, _, count, view = pickled
        if type(key) is not str or view is not None:
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if key not in storages:
            taken = count * dtype.itemsize + sum(other.data.numel() for other in storages.values())
            if not 0 <= taken <= size:
                raise pickle.UnpicklingError(f"a storage of {count:,} numbers in a file of {size:,} bytes")
            storages[key] = _Storage(dtype, torch.empty(count * dtype.itemsize, dtype=torch.uint8))
        return storages[key]

    machine = Machine(_Tensors(size).makers(), VALUES, STAND_INS, storage)
    if (machine.run(file), machine.run(file)) != LEGACY:
        raise pickle.UnpicklingError("torch.save did not write it")
    machine.run(file)
    content, keys = machine.run(file), machine.run(file)
    if not all(type(key) is str for key in keys) or set(keys) != set(storages):
        raise pickle.UnpicklingError("the numbers of some tensors are missing")
    for key in keys:
        dtype, data = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count * dtype.itemsize != data.numel() or file.readinto(data.numpy().data) != data.numel():
            raise EOFError(f"the file ends within storage {key}")
    return content


# --- files -----------------------------------------------------------------------------------------------

_DAMAGE = (  # what pickles and archives raise that were cut off or overwritten
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    pickle.PickleError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_file(path: StrPath) -> Any:
    """Read what torch.save wrote to `path`, tensors on the CPU.

    Raises
    ------
    FileNotFoundError
        With the nearest name in the folder.
    UnsafeCheckpointError
        For a file that names anything but tensors, plain containers, arrays and optimiser objects.
    CheckpointError
        For a damaged one.
    """
    with reading(path) as file:
        if is_archive(file):
            return Archive(file).unpickle()
        return _load_stream(io.BytesIO(file.read()))


def is_archive(file: IO[bytes]) -> bool:
    """Tell a zip archive by its first or last bytes, of which one may be damaged; go back to the file's beginning."""
    file.seek(0)
    found = file.read(4) == b"PK\3\4" or zipfile.is_zipfile(file)
    file.seek(0)
    return found


@contextlib.contextmanager
def reading(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a file; what goes wrong with it within the block is raised as `load_file` says."""
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'No file exists at "{path}"{path_hint(path)}')
    with open(path, "rb") as file:
        try:
            yield file
        except Refused as error:
            raise UnsafeCheckpointError(
                f"{path} was refused: it asks for {error}, which could run code and which no checkpoint needs; "
                "nothing was executed. Get the weights as plain tensors from a source you trust"
            ) from None
        except _DAMAGE as error:
            detail = textwrap.shorten(str(error).split(". ")[0], 160) or "no details"
            raise CheckpointError(
                f"{path} ({os.path.getsize(path):,} bytes) is damaged, incomplete or no checkpoint: "
                f"{type(error).__name__}: {detail}"
            ) from error
