"""A model to begin with: that of ``model/``, random but for the feature encoder, which is that of the digits model.

    python examples/english/start.py start

The digits model comes with this package; it was trained on other words, and its feature encoder hears speech already.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC

MODEL = Path(__file__).with_name("model")


def main() -> None:
    """Write the model into a new folder."""
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        raise SystemExit("usage: python examples/english/start.py FOLDER, a new one")
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config.from_pretrained(MODEL))
    digits = Wav2Vec2ForCTC.from_pretrained(EMBEDDED_MODEL)
    model.wav2vec2.feature_extractor.load_state_dict(digits.wav2vec2.feature_extractor.state_dict())
    model.save_pretrained(sys.argv[1])
    Wav2Vec2Processor.from_pretrained(MODEL).save_pretrained(sys.argv[1])


if __name__ == "__main__":
    main()
