"""What is said of many classes and many processes on paper is what the program does at small sizes."""
from __future__ import annotations

import pytest
import torch

from benchmarks.scale import paper as on_paper
from benchmarks.scale import processes as scale
from benchmarks.scale.paper import Setting, memory, operations, seconds, traffic
from benchmarks.scale.processes import TINY, TINY_SIZES, Figures, Work, measure, measure_here, model_of
from benchmarks.sizes import TEXT_TOWER, Sizes
from tests.support.programs import REPOSITORY
from trainers.plot.transport import Transport

SMALL = Sizes(TINY, classes=23, prompts=2, context=3, batch=5)


@pytest.fixture(autouse=True)
def _threads():
    """Measuring chooses the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kept_by_autograd(compute):
    """Numbers that the backward pass of what is computed needs, beside parameters and buffers."""
    sizes = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            sizes[storage.data_ptr()] = storage.nbytes() // 4, tensor  # which stays: its place is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(count for count, _ in sizes.values())


def test_memory_of_the_text_tower_is_that_of_the_formula(monkeypatch):
    monkeypatch.setitem(TINY_SIZES, "transformer_layers", 4)  # the first is cheaper, and not in the formula

    def kept(classes):
        model = model_of(SMALL._replace(classes=classes, prompts=4))
        words = model.prompt_learner.words
        return kept_by_autograd(lambda: model.text_encoder(model.prompt_learner())), 4 * sum(words.lengths)

    (few, few_tokens), (many, many_tokens) = kept(50), kept(250)
    layers, width = TINY_SIZES["transformer_layers"], TINY_SIZES["transformer_width"]
    by_formula = on_paper.text_activations(many_tokens - few_tokens, width, layers)
    assert 0.8 < (many - few) / by_formula < 1.25


def test_memory_of_the_transport_is_that_of_the_formula():
    sizes = SMALL._replace(classes=200, prompts=4, batch=16)
    model = model_of(sizes)
    local, text = torch.randn(16, 49, 64), torch.randn(4, 200, 64, requires_grad=True)
    normal = torch.nn.functional.normalize
    kept = kept_by_autograd(lambda: model.transport.score(normal(local, dim=-1), normal(text, dim=-1)))
    kernel = 16 * 200 * 49 * 4  # the plan is kept for the backward pass, and kernel or similarities beside it before
    assert kernel <= kept < 1.3 * 2 * kernel
    assert memory(Setting("RN50", 200, batch=16)).transport == 2 * 4 * kernel


def test_two_processes_exchange_what_is_on_paper_and_compute_the_same():
    alone, together = Figures(**measure_here(Work(SMALL), 1)), measure(Work(SMALL, processes=2), 1)
    assert scale.difference(together, alone) < 1e-4 and alone.received == 0 and together.seconds > 0
    step = Setting("RN50", SMALL.classes, SMALL.batch, SMALL.prompts, SMALL.context, processes=2)
    expected = traffic(step, number=4)  # the sizes of the towers are others than RN50's
    images = expected.images * TINY_SIZES["embed_dim"] / step.width
    gradient = expected.gradient * TINY_SIZES["transformer_width"] / TEXT_TOWER["transformer_width"]
    even = 6 / 5 * images + 24 / 23 * expected.logits + gradient  # messages of one length: short parts are filled up
    stop = together.received - even
    assert 0 < stop <= 8 * Transport().max_iterations and stop == round(stop / 8) * 8


def test_a_sample_of_the_classes_is_measured_on_the_sample():
    sizes = SMALL._replace(classes=60)
    whole, some = (measure_here(Work(sizes, sample=size), 1)["arrays"][0] for size in (0, 10))
    assert whole.shape == (5, 60) and some.shape == (5, 5 + 9)


def test_what_more_processes_do_on_paper():
    one, eight = (Setting("RN50", 21841, processes=processes) for processes in (1, 8))
    assert 7.9 < operations(one) / operations(eight) < 8.1 and 7 < seconds(one) / seconds(eight) < 8
    assert 7.9 < memory(one).activations / memory(eight).activations < 8.1
    assert traffic(one).sent == 0 < traffic(eight).sent < traffic(eight).text_instead / 10
    sample, chunks = one._replace(sample=1000), one._replace(chunk=500)
    assert sample.scored == 64 + 999 and memory(sample).activations < memory(one).activations / 20
    assert memory(chunks).activations < memory(one).activations / 40 and operations(chunks) > 1.4 * operations(one)
    assert one._replace(classes=500, sample=1000).scored == 500


def test_the_page_has_the_tables():
    page = (REPOSITORY / "docs/scale.md").read_text(encoding="utf-8")
    assert on_paper.table() in page and on_paper.contexts_table() in page
