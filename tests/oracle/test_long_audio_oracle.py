"""``--window legacy`` gives the logits of transformers' pipeline, chunk by chunk."""

import numpy as np
import pytest
from torch_models import NORMS, tiny

from wav2vec2_core import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_core.backend import load_backend
from wav2vec2_core.long_form.windows import Window, recording_logits

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle
RATE = 16_000


class Listener:
    """In the place of a beam search decoder: keeps the logits that the pipeline gives it."""

    def decode_beams(self, logits, **options):
        self.logits = np.asarray(logits)
        return [("", None, [], 0.0, 0.0)]


@pytest.fixture(scope="module", params=["group-post", "layer-pre"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("ForCTC", **NORMS[request.param]).save_pretrained(folder)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdef"]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text("{" + ", ".join(f'"{token}": {index}' for index, token in enumerate(tokens)) + "}")
    processor = Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(return_attention_mask=request.param == "layer-pre"), Wav2Vec2CTCTokenizer(vocabulary)
    )
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("length", "stride"), [(0.5, None), (0.3, 0.02), (0.25, 0.0), (0.111, 0.0333), (5, 1)])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 1.2345, 2.0])
def test_chunks_of_the_pipeline(folder, length, stride, seconds):
    samples = np.random.default_rng(0).normal(0.1, 0.3, round(seconds * RATE)).astype(np.float32)
    samples *= np.linspace(0.1, 2, len(samples), dtype=np.float32)
    listener = Listener()
    pipe = transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    pipe.type, pipe.decoder = "ctc_with_lm", listener
    pipe(samples.copy(), chunk_length_s=length, stride_length_s=stride)
    text = f"legacy:{length}" + ("" if stride is None else f":{stride}")
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    model = load_backend("torch").load_model(folder, device="cpu")
    made = recording_logits(model, extractor, np.array_split(samples, 7), window=Window.parse(text))
    assert made.shape == listener.logits.shape
    np.testing.assert_allclose(made, listener.logits, atol=1e-5 * np.abs(made).max())
