"""Keywords of transformers' ``from_pretrained`` and ``save_pretrained``: which are ignored, and which refused.

What is honoured is in the signatures. A keyword in none of them and not here is refused by whoever gets it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from wav2vec2_core.errors import InputError

#: Keyword of ``from_pretrained`` -> why it changes nothing here.
IGNORED_IN_LOADING = {
    "adapter_kwargs": "adapters of peft are not looked for",
    "attn_implementation": "attention is computed in one way, with the same numbers",
    "from_flax": "the weight file that is there is read, whoever wrote it",
    "from_pt": "the weight file that is there is read, whoever wrote it",
    "from_tf": "the weight file that is there is read, whoever wrote it",
    "generation_config": "nothing is generated",
    "local_dir_use_symlinks": "the hub's cache decides",
    "low_cpu_mem_usage": "a parameter at a time goes from the file into the model",
    "max_memory": "a model is on one device",
    "mirror": "huggingface_hub has none",
    "offload_buffers": "nothing is offloaded",
    "offload_folder": "nothing is offloaded",
    "offload_state_dict": "a parameter at a time goes from the file into the model",
    "resume_download": "downloads are always resumed",
    "trust_remote_code": "no code that comes with a model is run",
    "use_cache": "nothing is generated",
    "use_fast": "there is one tokenizer",
    "use_safetensors": "checked by models, of no meaning elsewhere",
    "user_agent": "huggingface_hub sends its own",
    "weights_only": "no pickle is ever executed",
    "_commit_hash": "a revision is named by revision",
    "_fast_init": "first values are made for new parameters only",
    "_from_auto": "of transformers' own bookkeeping",
    "_from_pipeline": "of transformers' own bookkeeping",
}
#: Keyword of ``from_pretrained`` -> (values that ask for nothing, what to do instead).
REFUSED_IN_LOADING: dict[str, tuple[tuple[Any, ...], str]] = {
    "adapter_name": ((None, "default"), "load adapters of peft with peft"),
    "device_map": ((None,), "put the model on a device in the way of its framework"),
    "device_mesh": ((None,), "place the parameters on a mesh after loading"),
    "distributed_config": ((None,), "place the parameters on devices after loading"),
    "gguf_file": ((None,), "convert the weights to safetensors first"),
    "key_mapping": ((None,), "rename the entries and pass them as state_dict"),
    "kernel_config": ((None,), "leave it out"),
    "load_in_4bit": ((None, False), "load in float32 or bfloat16 (dtype), or transcribe with --dtype int8"),
    "load_in_8bit": ((None, False), "load in float32 or bfloat16 (dtype), or transcribe with --dtype int8"),
    "proxies": ((None, {}), "set the environment variable HTTPS_PROXY"),
    "quantization_config": ((None,), "load in float32 or bfloat16 (dtype), or transcribe with --dtype int8"),
    "subfolder": ((None, ""), "name the folder itself"),
    "tp_plan": ((None,), "place the parameters on devices after loading"),
    "tp_size": ((None,), "place the parameters on devices after loading"),
    "use_kernels": ((None, False), "leave it out"),
    "variant": ((None, ""), "rename the file to model.safetensors"),
}
#: Keyword of ``save_pretrained`` -> why it changes nothing here.
IGNORED_IN_SAVING = {
    "legacy_format": "the files of one tokenizer are written",
    "legacy_serialization": "the files of transformers 4 and 5 are written",
    "save_function": "files are written whole or not at all by this library's own writers",
    "save_original_format": "there is one format",
    "save_jinja_files": "there are no chat templates",
    "save_peft_format": "adapters of peft are saved by peft",
}
#: Keyword of ``save_pretrained`` -> (values that ask for nothing, what to do instead).
REFUSED_IN_SAVING: dict[str, tuple[tuple[Any, ...], str]] = {
    "saved_model": ((None, False), "write it with export_saved_model"),
    "signatures": ((None,), "use export_saved_model"),
    "variant": ((None, ""), "save into a folder of its own"),
    "version": ((None, 1), "use export_saved_model"),
}


def accepted_in_loading(options: Mapping[str, Any], honoured: Collection[str] = ()) -> dict[str, Any]:
    """The keywords of a ``from_pretrained`` without those that transformers' programs pass and that change nothing.

    ``honoured``: keywords to keep whatever the tables say. Raises ``InputError`` for one that cannot be honoured.
    """
    return _sorted(options, honoured, IGNORED_IN_LOADING, REFUSED_IN_LOADING)


def accepted_in_saving(options: Mapping[str, Any], honoured: Collection[str] = ()) -> dict[str, Any]:
    """The same of a ``save_pretrained``."""
    return _sorted(options, honoured, IGNORED_IN_SAVING, REFUSED_IN_SAVING)


def _sorted(
    options: Mapping[str, Any],
    honoured: Collection[str],
    ignored: Mapping[str, str],
    refused: Mapping[str, tuple[tuple[Any, ...], str]],
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in options.items():
        if name in honoured:
            kept[name] = value
        elif name in refused:
            harmless, remedy = refused[name]
            if not any(value is one or (isinstance(value, type(one)) and value == one) for one in harmless):
                raise InputError(f"{name}={value!r:.100} is not supported here: {remedy}")
        elif name not in ignored:
            kept[name] = value
    return kept
