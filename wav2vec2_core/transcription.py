"""From a recording to text with any back end: read, normalise, run the model, decode."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2_core.audio import audio_duration, read_audio
from wav2vec2_core.backend import load_backend
from wav2vec2_core.decoding import Timeline, Word, greedy_decode
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.processing import Wav2Vec2Processor

#: The small digits model inside the package, used where no model is named.
EMBEDDED_MODEL = Path(__file__).parent / "assets" / "demo-digits"
#: Longest recording of one pass: attention needs memory that grows with the square of the length.
MAX_SECONDS = 60.0


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    text: as the tokenizer writes it; words: with frames; timeline: turns frames into seconds; duration: seconds.
    """

    text: str
    words: tuple[Word, ...]
    timeline: Timeline
    duration: float
    language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the layout of whisper's JSON files: times in seconds, ``probability`` between 0 and 1."""
        words = [
            {
                "word": word.text,
                "start": round(self.timeline.seconds(word.start), 3),
                "end": round(self.timeline.seconds(word.end), 3),
                "probability": round(word.confidence, 4),
            }
            for word in self.words
        ]
        segments = []
        if words:
            span = {"start": words[0]["start"], "end": words[-1]["end"]}
            segments.append({"id": 0, **span, "text": self.text, "words": words})
        return {"text": self.text, "segments": segments, "language": self.language}

    def render(self, output_format: str) -> str:
        """The content of a ``.txt`` or ``.json`` file, without final newline. Raises ``InputError``."""
        if output_format == "txt":
            return self.text
        if output_format == "json":
            return json.dumps(self.to_dict(), ensure_ascii=False)
        raise InputError(f"output format {output_format!r} is unknown: use one of txt, json")


class Transcriber:
    """A CTC model with its processor, loaded once and used for many recordings of up to a minute."""

    def __init__(
        self,
        model: str | os.PathLike[str] = EMBEDDED_MODEL,
        *,
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        local_files_only: bool = False,
    ) -> None:
        """Load ``model``, a folder or hub id; ``language`` selects an MMS vocabulary and adapter.

        Raises:
            CheckpointError, InputError, BackendError: the model, language or back end cannot be used, and why.
        """
        engine = load_backend(backend)
        chosen: dict[str, Any] = {} if language is None else {"target_lang": language}
        self.processor = Wav2Vec2Processor.from_pretrained(model, local_files_only=local_files_only, **chosen)
        self.language = language
        self.model = engine.load_model(
            model, device=device, dtype=dtype, language=language, local_files_only=local_files_only
        )
        self.timeline = Timeline.of(self.model.config, self.processor.feature_extractor.sampling_rate)

    def transcribe(self, path: str | os.PathLike[str]) -> Transcript:
        """Transcribe one file of any format, rate and channel count.

        Raises:
            AudioError: the file cannot be read, is longer than ``MAX_SECONDS`` or below the model's receptive field.
        """
        seconds = audio_duration(path)
        if seconds > MAX_SECONDS:
            raise AudioError(
                f"{path} lasts {seconds:.1f} s, one pass takes at most {MAX_SECONDS:.0f} s: cut it into shorter files"
            )
        rate = self.timeline.sampling_rate
        samples = read_audio(path, sampling_rate=rate)
        shortest = self.model.config.receptive_field
        if len(samples) < shortest:
            raise AudioError(
                f"{path} has {len(samples)} samples at {rate} Hz, the model needs at least {shortest}: "
                "use a longer recording"
            )
        features = self.processor.feature_extractor(samples, sampling_rate=rate, return_tensors="np")
        logits = self.model.logits([features["input_values"][0]])[0]
        text, words = greedy_decode(logits, self.processor.tokenizer)
        return Transcript(text, tuple(words), self.timeline, len(samples) / rate, self.language)
