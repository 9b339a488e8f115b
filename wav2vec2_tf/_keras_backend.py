"""Importing this module makes sure that Keras runs on TensorFlow, before anything else imports Keras."""

from __future__ import annotations

import os

from wav2vec2_core.errors import BackendError

_chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
if _chosen != "tensorflow":  # importing Keras would load that framework, or fail where it is missing
    raise BackendError(
        f"KERAS_BACKEND={_chosen!r} makes Keras run on {_chosen}, wav2vec2_tf needs TensorFlow: unset KERAS_BACKEND or "
        "set it to tensorflow before Keras is imported"
    )

# TensorFlow leaves oneDNN off on some processors, and without it has no gradient of a grouped convolution on a CPU.
# Where TensorFlow is imported already this comes too late, and the groups are computed one by one.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import tensorflow  # noqa: E402, F401  first: if it is missing, the error must say so

_remedy = 'set KERAS_BACKEND=tensorflow before Keras is imported, or "backend": "tensorflow" in ~/.keras/keras.json'
try:
    import keras
except ImportError as error:
    if error.name == "keras":
        raise
    raise BackendError(
        f"Keras does not import ({error}), perhaps on another back end than TensorFlow: {_remedy}"
    ) from error

if keras.config.backend() != "tensorflow":
    raise BackendError(f"Keras runs on {keras.config.backend()!r:.100}, wav2vec2_tf needs TensorFlow: {_remedy}")
