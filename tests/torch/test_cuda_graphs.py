"""Packs that are recorded and replayed: when, and with the numbers of a plain run.

On the CPU a stand-in records: it keeps the function and, like a graph, reads and writes the same memory at each replay.
"""

import contextlib
import logging

import numpy as np
import pytest
import torch
from model_cases import NORMS
from torch.utils._python_dispatch import TorchDispatchMode
from torch_models import tiny

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.long_form.windows import Window
from wav2vec2_torch import cuda_graphs, fast_layers, inference
from wav2vec2_torch.cuda_graphs import GRAPHS, LONGEST, SIGHTINGS, Recorded, Replayed
from wav2vec2_torch.inference import InferenceModel

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class StandIn:
    """Records on the CPU. ``fails``: the number of the recording that does not work."""

    def __init__(self, fails=None):
        self.fails, self.recordings, self.replays, self.turns, self.inside = fails, 0, 0, 0, False

    def record(self, run, features):
        assert self.inside
        self.recordings += 1
        if self.recordings == self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
        static = torch.full_like(features, float("nan"))
        output = run(static)

        def replay():
            assert self.inside
            self.replays += 1
            output.copy_(run(static))

        return Recorded(static, output, replay, run)

    @contextlib.contextmanager
    def turn(self):
        assert not self.inside
        self.inside, self.turns = True, self.turns + 1
        yield
        self.inside = False


class Prepared:
    """Doubles features and adds their utterance's length; counts plain and recorded runs alike."""

    def __init__(self):
        self.prepared = 0

    def __call__(self, lengths):
        self.prepared += 1
        added = torch.cat([torch.full((length, 1), float(length)) for length in lengths])
        return lambda features: 2 * features + added


def pack(lengths, seed=0):
    return torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(seed))


def show(replayed, lengths, times):
    """Run packs of a shape; each result must be its own and stay what it was."""
    made = []
    for seed in range(times):
        features = pack(lengths, seed)
        kept = features.clone()
        made.append((replayed(features, lengths), Prepared()(lengths)(features)))
        assert torch.equal(features, kept)
    for ours, expected in made:
        assert torch.equal(ours, expected)


def test_a_shape_is_recorded_once_it_has_come_often():
    stand_in = StandIn()
    replayed = Replayed(Prepared(), stand_in)
    show(replayed, [2, 5], SIGHTINGS)
    assert (stand_in.recordings, len(replayed)) == (0, 0)
    show(replayed, [2, 5], 4)
    assert (stand_in.recordings, stand_in.replays, len(replayed)) == (1, 4, 1)
    show(replayed, [5, 2], 1)  # as many frames, but other utterances
    assert (stand_in.recordings, stand_in.replays) == (1, 4)


def test_what_depends_on_lengths_is_made_once_for_a_recording():
    prepare = Prepared()
    replayed = Replayed(prepare, StandIn())
    show(replayed, [4], SIGHTINGS)
    before = prepare.prepared
    show(replayed, [4], 10)
    assert prepare.prepared == before + 1


def test_large_packs_are_not_recorded():
    stand_in = StandIn()
    replayed = Replayed(Prepared(), stand_in)
    show(replayed, [LONGEST, 1], SIGHTINGS + 2)
    assert stand_in.turns == 0
    show(replayed, [LONGEST - 1, 1], SIGHTINGS + 2)
    assert stand_in.replays == 2


def test_windows_of_the_default_length_are_recorded():
    keep, context = Window().frames(Wav2Vec2Config(), 16_000)
    assert keep + 2 * context <= LONGEST


def test_the_recording_used_least_recently_goes():
    stand_in = StandIn()
    replayed = Replayed(Prepared(), stand_in)
    for length in range(1, GRAPHS + 1):
        show(replayed, [length], SIGHTINGS + 1)
    show(replayed, [1], 1)
    show(replayed, [50], SIGHTINGS + 1)  # in the place of [2]
    assert (stand_in.recordings, len(replayed)) == (GRAPHS + 1, GRAPHS)
    show(replayed, [1], 1)
    assert stand_in.recordings == GRAPHS + 1
    show(replayed, [2], SIGHTINGS)
    assert stand_in.recordings == GRAPHS + 1
    show(replayed, [2], 1)
    assert stand_in.recordings == GRAPHS + 2


def test_shapes_of_a_growing_window_are_forgotten():
    """A stream's window grows step by step at first: those shapes come once for each stream and are not worth it."""
    stand_in = StandIn()
    replayed = Replayed(Prepared(), stand_in)
    for _ in range(SIGHTINGS + 2):
        for length in range(1, GRAPHS + 2):
            show(replayed, [length], 1)
    assert stand_in.recordings == 0


def test_where_recording_fails_all_goes_on_without_it(caplog):
    stand_in = StandIn(fails=2)
    replayed = Replayed(Prepared(), stand_in)
    show(replayed, [3], SIGHTINGS + 1)
    assert len(replayed) == 1
    with caplog.at_level(logging.WARNING, logger="wav2vec2_torch"):
        for length in (4, 3, 4, 5):
            show(replayed, [length], SIGHTINGS + 2)
    assert (stand_in.recordings, stand_in.replays, len(replayed)) == (2, 1, 0)
    (record,) = caplog.records
    assert record.getMessage() == (
        "CUDA graphs do not work here (operation not permitted when stream is capturing): "
        "going on without them, small packs are slower"
    )


def test_another_error_is_not_swallowed():
    def prepare(lengths):
        raise MemoryError

    with pytest.raises(MemoryError):
        Replayed(prepare, StandIn())(pack([3]), [3])


def test_no_graphs_on_the_cpu():
    assert cuda_graphs.recorder_for(torch.device("cpu")) is None
    show(Replayed(Prepared(), None), [3], SIGHTINGS + 2)
    assert "CUDA" not in InferenceModel(tiny()).summary()


@pytest.mark.parametrize("norm", ["group-post", "layer-pre"])
def test_a_model_replays_windows(norm, monkeypatch):
    stand_in = StandIn()
    monkeypatch.setattr(inference, "recorder_for", lambda device: stand_in)
    model = tiny("ForCTC", **NORMS[norm])
    replaying = InferenceModel(model)
    monkeypatch.setattr(inference, "recorder_for", lambda device: None)
    plain = InferenceModel(model)
    generator = np.random.default_rng(0)
    for _ in range(SIGHTINGS + 3):
        windows = [generator.standard_normal((frames, 24), np.float32) for frames in (40, 7)]
        for ours, theirs in zip(replaying.contextualize(windows), plain.contextualize(windows), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert (stand_in.recordings, stand_in.replays) == (1, 3)
    turns = stand_in.turns
    for _ in range(SIGHTINGS + 3):  # layers that are looked at are never replayed
        replaying.hidden_states(windows, [0, 1])
    assert stand_in.turns == turns


def test_a_model_that_mixes_its_layers_is_not_recorded(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setattr(inference, "recorder_for", lambda device: stand_in)
    engine = InferenceModel(tiny("ForSequenceClassification", use_weighted_layer_sum=True))
    for _ in range(SIGHTINGS + 2):
        engine.contextualize([np.ones((9, 24), np.float32)])
    assert stand_in.turns == 0


class Watch(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.overloadpacket._qualified_op_name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("varlen", [False, True])
def test_what_is_recorded_neither_waits_nor_reads_host_data(norm, varlen, monkeypatch):
    """Tensors made of Python numbers, values read back and copies between devices cannot be recorded."""
    forbidden = {"lift_fresh", "_local_scalar_dense", "is_nonzero", "nonzero", "_to_copy", "copy_", "scalar_tensor"}
    monkeypatch.setattr(fast_layers, "FFT_KERNEL", 10_000)  # a GPU convolves directly
    if varlen:
        kernel = pytest.importorskip("torch.nn.attention.varlen", reason="no attention over packs in this torch")
        monkeypatch.setattr(fast_layers, "has_varlen", lambda weight, head_dim: True)
        monkeypatch.setattr(kernel, "varlen_attn", lambda query, key, value, *rest: query + value)
    engine = InferenceModel(tiny(adapter_attn_dim=8, **NORMS[norm]) if norm == "layer-pre" else tiny(**NORMS[norm]))
    lengths, features = [40, 7], torch.randn(47, 24)
    with torch.no_grad(), Watch() as watch:  # inference mode would hide what operations consist of
        run = engine._transformer.prepared(lengths)
        assert ("lift_fresh" in watch.seen) == varlen  # what it would notice
        watch.seen.clear()
        run(features)
    assert {"addmm", "native_layer_norm"} <= watch.seen
    assert not watch.seen & forbidden


@GPU
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("norm", NORMS)
def test_graphs_give_the_numbers_of_plain_runs(norm, dtype):
    """``hidden_states`` is never replayed; without a head it gives what ``contextualize`` does."""
    engine = InferenceModel(tiny(**NORMS[norm]).to("cuda", getattr(torch, dtype)))
    generator = np.random.default_rng(0)
    for shape in ((40, 7), (300,), (40, 7)):
        for _ in range(SIGHTINGS + 3):
            windows = [generator.standard_normal((frames, 24), np.float32) for frames in shape]
            plain = [states[0] for states in engine.hidden_states(windows, [-1])]
            for ours, theirs in zip(engine.contextualize(windows), plain, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-5 if dtype == "float32" else 2e-2)
    assert engine.summary().endswith("; 2 CUDA graphs")


@GPU
def test_graphs_on_a_stream_of_the_caller():
    engine = InferenceModel(tiny().to("cuda"))
    window = np.random.default_rng(0).standard_normal((50, 24), np.float32)
    (expected,) = engine.contextualize([window])
    for _ in range(SIGHTINGS + 8):
        with torch.cuda.stream(torch.cuda.Stream()):
            np.testing.assert_allclose(engine.contextualize([window])[0], expected, atol=1e-5)
    assert engine.summary().endswith("; 1 CUDA graph")


@GPU
def test_a_recording_that_fails_leaves_the_device_usable(caplog):
    """Reading a value back is not permitted while recording."""
    recorder = cuda_graphs.recorder_for(torch.device("cuda", 0))
    replayed = Replayed(lambda lengths: lambda features: features * features.sum().item(), recorder)
    features = torch.ones(4, 2, device="cuda")
    stream = torch.cuda.current_stream()
    for _ in range(SIGHTINGS + 2):
        assert replayed(features, [4]).tolist() == [[8.0, 8.0]] * 4
    assert torch.cuda.current_stream() == stream
    assert len(replayed) == 0
    assert len(caplog.records) == 1
