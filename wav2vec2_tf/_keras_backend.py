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

import keras  # noqa: E402

if keras.config.backend() != "tensorflow":
    raise BackendError(
        f"Keras runs on {keras.config.backend()!r}, wav2vec2_tf needs TensorFlow: set KERAS_BACKEND=tensorflow before "
        'Keras is imported, or "backend": "tensorflow" in ~/.keras/keras.json'
    )
