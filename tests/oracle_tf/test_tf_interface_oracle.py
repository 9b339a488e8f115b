"""Everything public of transformers' TensorFlow models is here too, or there is a reason."""

import pytest
import tf_keras
import transformers
from transformers_interface import TF_MODEL

import wav2vec2_tf


@pytest.mark.parametrize("head", ["Model", "ForCTC", "ForSequenceClassification"])
def test_attributes(head):
    theirs, ours = getattr(transformers, f"TFWav2Vec2{head}"), getattr(wav2vec2_tf, f"TFWav2Vec2{head}")
    public = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(tf_keras.Model))
    assert {name for name in public if not hasattr(ours, name)} == TF_MODEL.keys()
