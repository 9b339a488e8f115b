"""``pipeline``: from the arguments of transformers' function of this name to a pipeline of ours."""

from __future__ import annotations

import os
from typing import Any

from wav2vec2_core.auto import check_family, processor_class
from wav2vec2_core.backend import Backend, backend_names, backend_of, load_backend
from wav2vec2_core.classification import UTTERANCES, head_of_source
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.decoding import Timeline
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.errors import BackendError, CheckpointError, InputError, brief
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.pipeline import LoadedModel
from wav2vec2_core.pipelines.audio_classification import AudioClassificationPipeline
from wav2vec2_core.pipelines.base import Pipeline
from wav2vec2_core.pipelines.speech_recognition import AutomaticSpeechRecognitionPipeline
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

_SPEECH, _CLASSES = AutomaticSpeechRecognitionPipeline.task, AudioClassificationPipeline.task
#: Task -> the head that it needs, and the hub model where none is named.
_TASKS = {
    _SPEECH: ("ForCTC", "facebook/wav2vec2-base-960h"),
    _CLASSES: (UTTERANCES, "superb/wav2vec2-base-superb-ks"),
}
#: Names of frameworks in transformers -> back ends.
_FRAMEWORKS = {"pt": "torch", "tf": "tf", "flax": "flax"}


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    framework: str | None = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = "auto",
    trust_remote_code: bool | None = None,
    model_kwargs: dict[str, Any] | None = None,
    pipeline_class: Any = None,
    torch_dtype: Any = None,
    **options: Any,
) -> Pipeline:
    """A pipeline for a task, with the arguments of ``transformers.pipeline``.

    Args:
        task: ``"automatic-speech-recognition"`` or ``"audio-classification"``; the one that the model is for where
            ``None``.
        model: folder, hub id or a model of one of the back ends; as in transformers where ``None``.
        config: refused: a model has its own.
        tokenizer, feature_extractor, processor: of the model where ``None``; objects, folders or hub ids.
        image_processor, use_fast, trust_remote_code: change nothing.
        framework: ``"pt"``, ``"tf"`` or ``"flax"``; the model's, or the first one that is installed, where ``None``.
        revision, token: of a hub model.
        device: ``"cpu"``, ``"cuda:0"``, a number (-1 is the processor) or a ``torch.device``; the best where ``None``.
        device_map: ``"auto"``, or a device.
        dtype: of the parameters; ``"auto"`` for the file's. ``torch_dtype`` is its older name.
        model_kwargs: of ``from_pretrained``; ``target_lang`` chooses the language of an MMS model.
        pipeline_class: refused.
        options: ``decoder``, ``batch_size`` and what a call of the pipeline takes.

    Raises:
        CheckpointError: no such model, or it is not for this task.
        ConfigError: the model is of another family.
        InputError: an argument is unknown or refused. BackendError: the framework or the device is not available.
    """
    for name, value in (("config", config), ("pipeline_class", pipeline_class)):
        if value is not None:
            raise InputError(f"{name}={brief(value)} is not supported here: leave it out")
    if task is not None and task not in _TASKS:
        raise InputError(f"task {brief(task)} is unknown: use {' or '.join(map(repr, _TASKS))}")
    if processor is not None and not isinstance(processor, str | os.PathLike):
        tokenizer, feature_extractor = (
            tokenizer or processor.tokenizer,
            feature_extractor or processor.feature_extractor,
        )
        options.setdefault("decoder", getattr(processor, "decoder", None))
    elif processor is not None:
        tokenizer, feature_extractor = tokenizer or processor, feature_extractor or processor
    place = _device(device_map if device is None else device)
    hub = {**(model_kwargs or {}), "revision": revision, "token": token}
    if model is None and task is None:
        raise InputError("neither task nor model is given: name a model")
    parts = _Parts(tokenizer, feature_extractor)
    if model is None or isinstance(model, str | os.PathLike | ModelSource):
        name = _TASKS[str(task)][1] if model is None else model
        given = dtype if torch_dtype is None else torch_dtype
        return _of_files(task, name, hub, parts, _framework(framework), place, given, options)
    return _of_model(task, model, parts, place, options)


class _Parts:
    """The tokenizer and the feature extractor that a program passed: objects, names or ``None``."""

    def __init__(self, tokenizer: Any, feature_extractor: Any) -> None:
        self.given = {Wav2Vec2CTCTokenizer: tokenizer, Wav2Vec2FeatureExtractor: feature_extractor}

    def get(self, kind: Any, source: ModelSource | None, **options: Any) -> Any:
        """The part of this kind; from the model's files where it was not passed. Raises ``InputError``."""
        given = self.given[kind]
        if isinstance(given, str | os.PathLike):
            return kind.from_pretrained(given, **options)
        if given is None and source is None:
            what = "tokenizer" if kind is Wav2Vec2CTCTokenizer else "feature_extractor"
            raise InputError(f"a model in memory has no {what}: pass {what}=processor.{what}, or the model's name")
        return kind.from_source(source, **options) if given is None else given


def _of_files(
    task: str | None,
    name: Any,
    hub: dict[str, Any],
    parts: _Parts,
    framework: str,
    device: str | None,
    dtype: Any,
    options: dict[str, Any],
) -> Pipeline:
    source, others = Pretrained.find(name, hub)
    language = others.pop("target_lang", None)
    others.pop("ignore_mismatched_sizes", None)  # an adapter brings a head of its own size
    dtype = others.pop("dtype", others.pop("torch_dtype", dtype))
    if others:
        raise InputError(f"model_kwargs has {next(iter(others))!r:.100}, which is no option here: leave it out")
    check_family(source)
    config = Wav2Vec2Config.from_source(source)
    task = task or _task_of(head_of_source(source), source.name)
    extractor = parts.get(Wav2Vec2FeatureExtractor, source)
    loaded = LoadedModel.load(
        source,
        head=_TASKS[task][0],
        backend=_FRAMEWORKS[framework],
        device=device or "auto",
        dtype=_dtype(dtype, config),
        language=language,
        extractor=extractor,
    )
    if task == _CLASSES:
        return AudioClassificationPipeline(loaded, framework, **options)
    chosen = {} if language is None else {"target_lang": language}
    tokenizer = parts.get(Wav2Vec2CTCTokenizer, source, **chosen)
    if "decoder" not in options and processor_class(source) is Wav2Vec2ProcessorWithLM:
        options["decoder"] = BeamSearchDecoder.from_source(source)
    return _speech(loaded, framework, tokenizer, options)


def _of_model(task: str | None, model: Any, parts: _Parts, device: str | None, options: dict[str, Any]) -> Pipeline:
    backend: Backend | None = backend_of(model)
    if backend is None:
        raise InputError(f"model is a {type(model).__name__}, of no back end of ours: load it with ours, or name it")
    task = task or _task_of(model.head, type(model).__name__)
    if model.head != _TASKS[task][0]:
        raise InputError(f"model is a {type(model).__name__}, {task} needs a Wav2Vec2{_TASKS[task][0]}: load that")
    extractor = parts.get(Wav2Vec2FeatureExtractor, None)
    wrapped = backend.inference.wrap_model(model, device=device)
    loaded = LoadedModel(wrapped, extractor, Timeline.of(wrapped.config, extractor.sampling_rate))
    framework = next((name for name, ours in _FRAMEWORKS.items() if ours == backend.name), backend.name)
    if task == _CLASSES:
        return AudioClassificationPipeline(loaded, framework, **options)
    return _speech(loaded, framework, parts.get(Wav2Vec2CTCTokenizer, None), options)


def _speech(loaded: LoadedModel, framework: str, tokenizer: Any, options: dict[str, Any]) -> Pipeline:
    decoder = options.pop("decoder", None)
    if isinstance(decoder, str | os.PathLike):
        decoder = BeamSearchDecoder.load_from_dir(decoder)
    if decoder is not None:  # their vocabularies must be one
        Wav2Vec2ProcessorWithLM(loaded.extractor, tokenizer, decoder)
    return AutomaticSpeechRecognitionPipeline(loaded, framework, tokenizer, decoder, **options)


def _task_of(head: str, model: str) -> str:
    found = next((task for task, (needed, _) in _TASKS.items() if needed == head), None)
    if found is None:
        raise CheckpointError(
            f"model {model!r:.100} is a Wav2Vec2{head}, which no pipeline is for: name one of "
            f"{' or '.join(f'Wav2Vec2{needed}' for needed, _ in _TASKS.values())}"
        )
    return found


def _framework(name: str | None) -> str:
    """The framework to use. Raises ``InputError`` for an unknown one, ``BackendError`` where none is installed."""
    if name is not None:
        if name not in _FRAMEWORKS:
            raise InputError(f"framework {brief(name)} is unknown: use one of {', '.join(_FRAMEWORKS)}")
        return name
    names = [one for one, backend in _FRAMEWORKS.items() if backend in backend_names()]
    first: BackendError | None = None
    for one in names:
        try:
            load_backend(_FRAMEWORKS[one])
        except BackendError as error:
            first = first or error
        else:
            return one
    raise first or BackendError('no back end is registered: pip install "wav2vec2-frameworks[torch]"')


def _device(device: Any) -> str | None:
    """The name of a device as back ends know it, ``None`` for the best. Raises ``InputError``."""
    if device is None or device in ("auto", "balanced", "balanced_low_0", "sequential"):
        return None
    if isinstance(device, dict):
        raise InputError(f"device_map={brief(device)} is not supported here: a model is on one device, name that")
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return str(device)


def _dtype(dtype: Any, config: Wav2Vec2Config) -> str:
    name = str(dtype).removeprefix("torch.")
    if dtype is None or name == "auto":
        name = config.dtype or "float32"
        return name if name in DTYPES else "float32"
    return name
