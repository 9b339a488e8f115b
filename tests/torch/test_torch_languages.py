"""An engine over an MMS model: requests of several languages at once, adapters switched in one model."""

import numpy as np
import pytest
from mms_folder import write_mms

from wav2vec2_core.audio import Recording
from wav2vec2_core.errors import InputError
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.transcription import Transcriber
from wav2vec2_torch import inference
from wav2vec2_torch.kernels import Kernels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mms(tmp_path_factory.mktemp("mms"))


def noise(seed):
    return Recording.of(np.random.default_rng(seed).normal(0, 0.2, 16_000 * (1 + seed % 3)), 16_000)


def test_requests_of_two_languages_get_the_text_of_each_languages_own_model(folder):
    alone = {language: Transcriber(folder, language=language) for language in ("eng", "fra")}
    with Engine(folder, language="eng") as engine:
        languages = ["eng", "fra", "fra", "eng", "fra", "eng"]
        places = [engine.place() for _ in languages]
        futures = [
            place.transcribe(noise(seed), language=engine.check_language(language))
            for seed, (place, language) in enumerate(zip(places, languages, strict=True))
        ]
        found = [future.result(60) for future in futures]
        for place in places:
            place.cancel()
    expected = [alone[language].transcribe(noise(seed)) for seed, language in enumerate(languages)]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.language for one in found] == languages
    assert all(one.text for one in found)
    assert set("".join(one.text for one in found)) & set("éàç")


def test_languages_are_named_as_clients_name_them_and_unknown_ones_are_refused(folder):
    with Engine(folder, language="eng") as engine:
        assert [engine.check_language(code) for code in (None, "fr", "fra", "en")] == ["eng", "fra", "fra", "eng"]
        for code in ("deu", "de", "../eng"):
            with pytest.raises(InputError, match=r"deu|'de'|\.\./eng"):
                engine.check_language(code)


@pytest.mark.parametrize("kept", ["as released weights", "with few instructions"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_languages_are_switched_back_and_forth_with_the_numbers_of_a_fresh_model(folder, dtype, kept, monkeypatch):
    """Also where kernels have the only copy of the weights, and where parameters are rounded to a type that this
    processor does not compute with."""
    released = kept == "as released weights"
    monkeypatch.setattr(inference, "fastest", lambda *_, **__: Kernels("prepacked", "plain", "by head"))
    monkeypatch.setattr(inference, "_has_instructions", lambda name: released)
    waveforms = [np.random.default_rng(length).normal(0, 1, length).astype(np.float32) for length in (3000, 9000)]
    engine = inference.load_model(folder, device="cpu", dtype=dtype, language="eng")
    assert any(parameter.is_meta for parameter in engine.model.parameters())
    seen = set()
    for language in ("fra", "eng", "eng", "fra"):
        engine.use_language(language)
        fresh = inference.load_model(folder, device="cpu", dtype=dtype, language=language)
        for ours, theirs in zip(engine.logits(waveforms), fresh.logits(waveforms), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            seen.add(ours.tobytes())
    assert len(seen) == 4, "each recording in each language has numbers of its own"
    with pytest.raises(InputError, match="deu"):
        engine.use_language("deu")
    np.testing.assert_array_equal(engine.logits(waveforms)[1], fresh.logits(waveforms)[1])
