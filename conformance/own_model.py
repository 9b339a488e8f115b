"""A user's own checkpoint on own recordings: the same stages, compared across back ends and with the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conformance.backends import Arrays, BackendModel, Opened
from conformance.bench import Expected
from conformance.cases import Case
from conformance.checks import FINALS, limits
from conformance.reference_body import Randomness
from conformance.results import Result, compare, describe, equal
from wav2vec2_core.audio import read_audio
from wav2vec2_core.checkpoint import ModelSource, open_checkpoint, open_model, plan_loading, with_head_of
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import AudioError, CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import head_of, parameter_table

#: Parameters times frames up to which numpy computes a model in float64 in about a minute.
REFERENCE_WORK = 1e12
#: Without recordings: seconds of noise.
NOISE_SECONDS = 2.0


@dataclass(frozen=True)
class OwnCase(Case):
    """A case whose parameters and waveform are given; nothing is drawn."""

    values: Arrays = field(default_factory=dict, compare=False)
    waveform: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), compare=False)

    def parameters(self) -> Arrays:
        """Those of the checkpoint."""
        return self.values

    def inputs(self) -> Arrays:
        """One utterance."""
        return {"input_values": self.waveform[None]}

    def labels(self) -> None:
        """None: nothing is trained."""

    def randomness(self) -> Randomness:
        """No draws."""
        return Randomness()


@dataclass(frozen=True)
class OwnModel:
    """A checkpoint that is open. folder: of its files; new: parameters it lacks (a mask embedding at most)."""

    name: str
    folder: str
    head: str
    config: Wav2Vec2Config
    values: Arrays
    source: ModelSource

    @classmethod
    def open(cls, model: str) -> OwnModel:
        """Read a folder or hub model. Raises ``CheckpointError`` and ``ConfigError``, also for missing parameters."""
        source = open_model(model)
        config = Wav2Vec2Config.from_source(source)
        checkpoint = open_checkpoint(source)
        head = head_of(config.architectures, checkpoint.shapes)
        config = with_head_of(config, head, checkpoint.shapes)
        table = parameter_table(config, head)
        plan = plan_loading(table, checkpoint)
        lacking = [name for name in plan.new if not name.endswith("masked_spec_embed")]
        if lacking:
            raise CheckpointError(
                f"model {model!r} has no values for {lacking[0]} ({len(lacking)} such parameters): there is nothing to "
                "compare them with, name a complete model"
            )
        values = {ours: checkpoint.read(theirs).astype(np.float32) for ours, theirs in plan.sources.items()}
        values = {name: values.get(name, np.zeros(row.shape, np.float32)) for name, row in table.items()}
        folder = str(Path(os.fspath(source.require("config.json"))).parent)
        return cls(source.name, folder, head, config, values, source)

    def cases(self, recordings: Sequence[Path]) -> list[OwnCase]:
        """One case for each recording, normalised as the model wants it; one of noise without recordings.

        Raises:
            AudioError: a recording cannot be read or is shorter than the receptive field.
        """
        extractor = Wav2Vec2FeatureExtractor()
        if self.source.find("preprocessor_config.json", "processor_config.json") is not None:
            extractor = Wav2Vec2FeatureExtractor.from_source(self.source)
        rate = extractor.sampling_rate
        if not recordings:
            noise = np.random.default_rng(0).standard_normal(int(NOISE_SECONDS * rate)).astype(np.float32)
            return [self._case("noise", noise)]
        cases = []
        for path in recordings:
            samples = read_audio(path, sampling_rate=rate)
            if len(samples) < self.config.receptive_field:
                raise AudioError(
                    f"{path} has {len(samples)} samples at {rate} Hz, the model needs at least "
                    f"{self.config.receptive_field}: use a longer recording"
                )
            batch = extractor(samples, sampling_rate=rate, return_tensors="np")
            cases.append(self._case(path.name, batch["input_values"][0]))
        return cases

    def has_reference(self, case: Case) -> bool:
        """Whether the reference can compute it in about a minute."""
        count = sum(array.size for array in self.values.values())
        return count * self.config.num_frames(case.lengths[0], add_adapter=False) <= REFERENCE_WORK

    def _case(self, name: str, waveform: np.ndarray) -> OwnCase:
        return OwnCase(
            name=name,
            family="own",
            head=self.head,
            config=self.config.replace(output_hidden_states=False, output_attentions=False),
            lengths=(len(waveform),),
            full_size=True,
            values=self.values,
            waveform=np.asarray(waveform, np.float32),
        )


def check_own(model: OwnModel, cases: Sequence[OwnCase], backends: Sequence[Opened], dtype: str) -> Iterator[Result]:
    """Loading, then every stage of every recording: of each back end against the reference, or against the first one.

    In bfloat16 parameters are rounded for the reference too.
    """
    loaded: dict[str, BackendModel] = {}
    for backend in backends:
        note, compared = "", ()
        try:
            read = backend.load(model.folder, model.head)
            found = {name: array.astype(np.float32) for name, array in read.weights().items()}
            compared = equal(*(_without_mask_embedding(arrays) for arrays in (model.values, found)))
            config = cases[0].config
            loaded[backend.name] = backend.build(config, model.head, model.values, dtype=dtype)
        except Exception as error:
            note = describe(error)
        yield Result(backend.name, "loading", model.name, compared, note)
    for case in cases:
        expected, against = None, "stages"
        if model.has_reference(case):
            exact = Expected(case)
            expected = exact.inference if dtype == "float32" else exact.rounded
        for name, built in loaded.items():
            note, compared = "", ()
            try:
                found = built.forward(case.inputs())
                if expected is None:  # too large for numpy: the others are compared with the first back end
                    expected, against = _outputs(found), f"as {name}"
                    if len(loaded) > 1:
                        continue
                    raise InputError("too large for the reference: name a second back end to compare with")
                compared = compare(expected, found, limits(case, expected, dtype))
            except Exception as error:
                note = describe(error)
            yield Result(name, against, case.name, compared, note)


def _outputs(found: Arrays) -> Arrays:
    """What every back end returns alike: hidden states and results."""
    return {
        name: array.astype(np.float64)
        for name, array in found.items()
        if name in FINALS or name.startswith("hidden_states.")
    }


def _without_mask_embedding(arrays: Arrays) -> dict[str, Any]:
    """A checkpoint may lack it: inference does not use it."""
    return {name: array for name, array in arrays.items() if not name.endswith("masked_spec_embed")}
