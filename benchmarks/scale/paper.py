"""What a training step of PLOT needs, on paper: memory, messages and time, for sizes that no machine here has.

The formulas are those of the program as it is; the tests compare them with what is measured at small sizes.  Letters: B
images, C classes of a step, M places, D feature width, N prompts of n tokens, E token width, L layers, W processes.

    python -m benchmarks --subjects paper      # the tables of docs/scale.md
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..sizes import ARCHITECTURES, TEXT_TOWER

PLACES = {"RN50": 49, "ViT-B/16": 196}
OF_IMAGE = {"RN50": 10.7e9, "ViT-B/16": 35.1e9}  # operations of the frozen tower for one image, forwards
NAME_TOKENS = 5  # of a class's name, the full stop and the end, in the mean
KEPT = 10.4  # numbers, in E, that the backward pass needs of a token in a layer; measured, see the tests
KEPT_LAST = 4.0  # the same of the last layer, which is computed at the end tokens alone
HALF, SINGLE = 2, 4  # bytes of a number: towers in half precision, all else in single

OPERATIONS = 100e12  # a second, of a GPU in half precision: a third of what an A100 is sold with
MEMORY = 1e12  # bytes a second, of its memory
WIRE = 10e9  # bytes a second, that a process receives from the others
ABOVE_FLOOR = 1.4  # times the bare operations that a step takes, measured on two CPUs: 1.35 and 1.46 (docs/speed.md)
ITERATIONS = 8  # of the transport, in which it reads its kernel twice


class Setting(NamedTuple):
    """A training step.

    Attributes
    ----------
    backbone
        RN50 or ViT-B/16.
    classes, batch, prompts, context
        C of the data set, B, N and n.
    processes
        W, on as many GPUs.
    chunk
        TEXT_CHUNK and MATCH_CHUNK; 0: all classes of a process at once.
    sample
        CLASS_SAMPLE K; 0: all classes.
    class_specific
        CSC: contexts for every class.
    """

    backbone: str
    classes: int
    batch: int = 64
    prompts: int = 4
    context: int = 16
    processes: int = 1
    chunk: int = 0
    sample: int = 0
    class_specific: bool = False

    @property
    def scored(self) -> int:
        """Classes of a step; the images of a batch are taken to be of different ones."""
        return min(self.classes, self.batch + self.sample - 1) if self.sample else self.classes

    @property
    def own(self) -> int:
        """Classes that a process encodes."""
        return -(-self.scored // self.processes)

    @property
    def at_once(self) -> int:
        """Classes whose activations are there at the same time."""
        return min(self.own, self.chunk or self.own)

    @property
    def width(self) -> int:
        """D."""
        return int(ARCHITECTURES[self.backbone]["embed_dim"])

    @property
    def contexts(self) -> int:
        """Learned numbers."""
        count = self.prompts * self.context * TEXT_TOWER["transformer_width"]
        return count * self.classes if self.class_specific else count


class Memory(NamedTuple):
    """Bytes of a process, beside its frozen towers.

    Attributes
    ----------
    contexts
        With their gradient, which is dense, and the momentum of SGD.
    features
        N C D of the text, three times: as they come, of unit length, and their gradient.
    activations
        What the backward pass through the text tower needs.
    transport
        Kernel and plan, B C M N numbers each.
    """

    contexts: float
    features: float
    activations: float
    transport: float


class Traffic(NamedTuple):
    """Bytes that a process receives in a step by a ring: (W - 1) / W of what is gathered, twice that of what is summed.

    Attributes
    ----------
    images
        Features of all images, B (M + 1) D, from those who encoded them; frozen, so nothing comes back.
    logits
        B C; their gradient is known to all.
    gradient
        Of the contexts.
    stop
        The mean change and its weight after each iteration of the transport, by which all stop together.
    text_instead
        Not sent: what it would be to gather the text features N C D, forwards and backwards, in the place of images and
        logits.
    """

    images: float
    logits: float
    gradient: float
    stop: float
    text_instead: float

    @property
    def sent(self) -> float:
        """What is."""
        return self.images + self.logits + self.gradient + self.stop


def text_activations(tokens: float, width: int, layers: int) -> float:
    """Count the numbers that the backward pass keeps of so many tokens of prompts."""
    return tokens * width * (KEPT * (layers - 1) + KEPT_LAST)


def memory(step: Setting) -> Memory:
    """Work out the memory of a process."""
    width, layers = TEXT_TOWER["transformer_width"], TEXT_TOWER["transformer_layers"]
    tokens = step.prompts * (step.at_once * NAME_TOKENS + 1 + step.context)
    return Memory(
        contexts=3 * SINGLE * step.contexts,
        features=3 * SINGLE * step.prompts * step.own * step.width,
        activations=HALF * text_activations(tokens, width, layers),
        transport=2 * SINGLE * step.batch * step.at_once * PLACES[step.backbone] * step.prompts,
    )


def traffic(step: Setting, number: int = HALF) -> Traffic:
    """Work out what a process receives; `number` is the size of a number of the image features, in bytes."""
    others = (step.processes - 1) / step.processes
    return Traffic(
        images=others * number * step.batch * (PLACES[step.backbone] + 1) * step.width,
        logits=others * SINGLE * step.batch * step.scored,
        gradient=2 * others * SINGLE * step.contexts,
        stop=2 * others * SINGLE * 2 * ITERATIONS,
        text_instead=3 * others * SINGLE * step.prompts * step.scored * step.width,
    )


def operations(step: Setting) -> float:
    """Count the multiplications and additions of a process.

    A token of a prompt takes 24 E^2 in a layer, and as many backwards; in chunks, the forward pass is made twice.
    """
    width, layers = TEXT_TOWER["transformer_width"], TEXT_TOWER["transformer_layers"]
    tokens = step.prompts * (step.own * NAME_TOKENS + 1 + step.context)
    passes = 3 if step.at_once < step.own else 2
    text = passes * 24 * width**2 * (layers - 0.5) * tokens
    images = -(-step.batch // step.processes) * OF_IMAGE[step.backbone]
    similarities = 4.0 * step.batch * PLACES[step.backbone] * step.width * step.prompts * step.own
    return text + images + similarities


def seconds(step: Setting) -> float:
    """Work out how long a step takes on GPUs of the rates above: no part of it waits for another, none overlaps."""
    kernel = SINGLE * step.batch * step.own * PLACES[step.backbone] * step.prompts
    return ABOVE_FLOOR * operations(step) / OPERATIONS + 2 * ITERATIONS * kernel / MEMORY + traffic(step).sent / WIRE


# --- the tables ------------------------------------------------------------------------------------------

CLASSES, PROCESSES, CHUNK, SAMPLE = (1000, 5000, 21841), (1, 8, 64), 500, 1000


def settings() -> Iterator[Setting]:
    """List the rows of the table."""
    for backbone in PLACES:
        for classes in CLASSES:
            for processes in PROCESSES:
                yield Setting(backbone, classes, processes=processes)
        for processes in PROCESSES:
            yield Setting(backbone, CLASSES[-1], processes=processes, sample=SAMPLE)


def rounded(size: float) -> str:
    """Write bytes with two digits: "0.53 GB", "64 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.1 * scale or unit == "kB":
            value = size / scale
            return f"{value:.{0 if value >= 10 else 1 if value >= 1 else 2}f} {unit}"
    raise AssertionError


def table() -> str:
    """Return the table of memory, messages and time, in Markdown."""
    head = ["backbone", "C", "GPUs", "text features", "text tower", f"in chunks of {CHUNK}", "transport",
            f"in chunks of {CHUNK}", "on the wire", "if text were gathered", "step"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for step in settings():
        whole, chunks, wire = memory(step), memory(step._replace(chunk=CHUNK)), traffic(step)
        classes = f"{step.classes:,}" + (f", sample of {step.sample:,}" if step.sample else "")
        sent = [rounded(size) if step.processes > 1 else "" for size in (wire.sent, wire.text_instead)]
        memories = (whole.features, whole.activations, chunks.activations, whole.transport, chunks.transport)
        cells = [step.backbone, classes, str(step.processes), *map(rounded, memories), *sent,
                 f"{seconds(step) * 1e3:,.0f} ms"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def contexts_table() -> str:
    """Return the table of the memory of contexts, in Markdown."""
    lines = ["| C | shared contexts | CSC | messages of their gradient, CSC, 8 GPUs |", "|---|---|---|---|"]
    for classes in CLASSES:
        shared = Setting("RN50", classes, processes=8)
        own = shared._replace(class_specific=True)
        sizes = memory(shared).contexts, memory(own).contexts, traffic(own).gradient
        lines.append(f"| {classes:,} | {' | '.join(map(rounded, sizes))} |")
    return "\n".join(lines)
