"""Everything public of transformers' classes is here too, or there is a reason."""

import inspect

import pytest
import torch
import transformers
import transformers_interface as lacking

import wav2vec2_core
import wav2vec2_torch
from wav2vec2_core.loading_options import (
    IGNORED_IN_LOADING,
    IGNORED_IN_SAVING,
    REFUSED_IN_LOADING,
    REFUSED_IN_SAVING,
)
from wav2vec2_core.names import HEADS

CLASSES = {
    "Config": lacking.CONFIG,
    "CTCTokenizer": lacking.TOKENIZER,
    "FeatureExtractor": lacking.FEATURE_EXTRACTOR,
    "Processor": lacking.PROCESSOR,
    **dict.fromkeys(HEADS, lacking.TORCH_MODEL),
}
#: Methods that take any option and sort it: see ``loading_options``.
SORTED = {
    "from_pretrained": {*IGNORED_IN_LOADING, *REFUSED_IN_LOADING, "config", "token", "revision", "cache_dir",
                        "local_files_only", "force_download", "ignore_mismatched_sizes"},
    "save_pretrained": {*IGNORED_IN_SAVING, *REFUSED_IN_SAVING, "push_to_hub", "token"},
    "push_to_hub": {"max_shard_size", "safe_serialization"},
}  # fmt: skip


def both(name):
    ours = wav2vec2_torch if name in HEADS else wav2vec2_core
    return getattr(transformers, f"Wav2Vec2{name}"), getattr(ours, f"Wav2Vec2{name}")


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")} - set(dir(torch.nn.Module))


def example(ours):
    """Something with the attributes that instances have."""
    return ours() if ours in (wav2vec2_core.Wav2Vec2Config, wav2vec2_core.Wav2Vec2FeatureExtractor) else None


@pytest.mark.parametrize("name", CLASSES)
def test_attributes(name):
    theirs, ours = both(name)
    made = example(ours)
    missing = {one for one in public(theirs) if not hasattr(ours, one) and not hasattr(made, one)}
    if name == "CTCTokenizer":  # set by its constructor
        missing -= {"padding_side", "truncation_side", "word_delimiter_token"}
    assert missing == CLASSES[name].keys()


@pytest.mark.parametrize("name", CLASSES)
def test_arguments(name):
    theirs, ours = both(name)
    calls = [one for one in public(theirs) if callable(getattr(theirs, one)) and callable(getattr(ours, one, None))]
    for call in [*calls, "__init__", "__call__"]:
        their_arguments = arguments(getattr(theirs, call))
        our_arguments = arguments(getattr(ours, call))
        known = our_arguments.keys() | SORTED.get(call, set())
        if call in ("encode", "encode_plus", "batch_encode_plus", "prepare_for_model"):
            known |= arguments(ours.__call__).keys() | {"prepend_batch_axis"}  # with return_tensors, always
        if call == "batch_decode":
            known |= arguments(ours.decode).keys()
        missing = their_arguments.keys() - known
        assert missing == {one for kind, method, one in lacking.ARGUMENTS if (kind, method) == (name, call)}, call


def arguments(function):
    try:
        found = inspect.signature(function).parameters
    except ValueError:
        return {}
    return {name: one for name, one in found.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}


def test_every_reason_is_said():
    tables = [*CLASSES.values(), lacking.TF_MODEL, lacking.ARGUMENTS]
    assert all(reason.strip() for table in tables for reason in table.values())
