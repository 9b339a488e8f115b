"""The back end interface: waveforms in, numpy logits out, each as if it were alone."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch_models import NORMS, VARIANTS, tiny

from wav2vec2_core.backend import load_backend
from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.parameters import HEADS

GENERATOR = np.random.default_rng(0)
WAVEFORMS = [GENERATOR.standard_normal(length).astype(np.float32) for length in (900, 310, 1501, 640, 1500, 155)]
FIELDS = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


@pytest.fixture
def backend():
    return load_backend("torch")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("norm", ["group-post", "layer-pre"])
def test_numbers_of_single_utterances_in_the_given_order(backend, head, norm, tmp_path):
    model = tiny(head, **NORMS[norm])
    model.save_pretrained(tmp_path)
    loaded = backend.load_model(tmp_path, head=head, device="cpu")
    assert loaded.config.masked_group_norm
    results = loaded.logits(WAVEFORMS, batch_samples=4000)
    for waveform, result in zip(WAVEFORMS, results, strict=True):
        with torch.no_grad():
            output = model(torch.from_numpy(waveform)[None])
        expected = output[FIELDS.get(head, "logits")][0].numpy()
        assert result.dtype == np.float32
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())
    assert loaded.logits([]) == []


@pytest.mark.parametrize("variant", ["adapter", "wide-adapter"])
def test_frames_after_a_convolutional_adapter(backend, variant, tmp_path):
    model = tiny("ForCTC", **VARIANTS[variant])
    model.save_pretrained(tmp_path)
    results = backend.load_model(tmp_path, device="auto").logits(WAVEFORMS)
    assert [len(result) for result in results] == [model.config.num_frames(len(waveform)) for waveform in WAVEFORMS]


def test_half_precision(backend, tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    wide = backend.load_model(tmp_path).logits(WAVEFORMS)
    narrow = backend.load_model(tmp_path, dtype="bfloat16").logits(WAVEFORMS)
    for one, other in zip(narrow, wide, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= 4e-2 * np.abs(other).max()


def test_language(backend, tmp_path):
    fields = {**NORMS["layer-pre"], "adapter_attn_dim": 6}
    tiny("Model", **fields).save_pretrained(tmp_path)  # its CTC head comes with the language
    tiny("ForCTC", seed=2, **fields, vocab_size=17).save_adapter(tmp_path, "xyz")
    assert backend.load_model(tmp_path, language="xyz").logits(WAVEFORMS)[0].shape[1] == 17


@pytest.mark.parametrize("head", ["ForCTC", "ForXVector"])
def test_an_untrained_head_is_refused(backend, head, tmp_path, caplog):
    tiny("ForPreTraining").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"its {head} part is not trained, fine-tune it") as caught:
        backend.load_model(tmp_path, head=head)
    assert "\n" not in str(caught.value)
    assert caplog.records == []  # the error says it


def test_a_new_mask_embedding_does_not_matter(backend, tmp_path):
    tiny("ForCTC", mask_time_prob=0.0).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"mask_time_prob": 0.0', '"mask_time_prob": 0.1')
    (tmp_path / "config.json").write_text(config)
    assert len(backend.load_model(tmp_path).logits(WAVEFORMS)) == len(WAVEFORMS)


def test_devices(backend):
    assert backend.devices()[-1] == "cpu"
    assert len(set(backend.devices())) == len(backend.devices())


def test_wrong_arguments(backend, tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="head 'ForSpeech' is unknown"):
        backend.load_model(tmp_path, head="ForSpeech")
    with pytest.raises(InputError, match=r"dtype 'int9' is unknown: use one of float32, .*, int8"):
        backend.load_model(tmp_path, dtype="int9")
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(BackendError, match=rf"device '{device}' is not available here: use one of .*cpu"):
            backend.load_model(tmp_path, device=device)
    model = backend.load_model(tmp_path)
    with pytest.raises(InputError, match="has 29 samples, one frame sees 30"):
        model.logits([np.zeros(100, np.float32), np.zeros(29, np.float32)])
    with pytest.raises(InputError, match=r"must be \(batch, samples\)"):
        model.logits([np.zeros((2, 100), np.float32)])


FORK = """
import os, signal
import numpy as np, torch
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch.inference import load_model

model = load_model(EMBEDDED_MODEL, device="cpu")
waveform = np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
before = model.logits([waveform])[0]
assert torch.get_num_threads() == 2
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if np.array_equal(model.logits([waveform])[0], before) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_was_forked_after_loading():
    """It would wait for threads that it does not have."""
    subprocess.run([sys.executable, "-c", FORK], env={**os.environ, "OMP_NUM_THREADS": "2"}, check=True)
