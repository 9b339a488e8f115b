"""ModelOutput: one record, four ways to read it."""

import pickle

import pytest

from wav2vec2_core.outputs import OUTPUT_CLASSES, CausalLMOutput, Wav2Vec2ForPreTrainingOutput


def test_attribute_key_index_and_tuple():
    output = CausalLMOutput(logits="L", loss=1.0)
    assert output.loss == output["loss"] == output[0] == 1.0
    assert output.logits == output["logits"] == output[1] == output[-1] == "L"
    assert output[:2] == output.to_tuple() == (1.0, "L")
    assert list(output) == ["loss", "logits"]
    assert isinstance(output, dict)
    assert "hidden_states" not in output
    assert output.hidden_states is None
    assert output.get("attentions", 3) == 3


def test_unset_and_unknown_fields():
    output = CausalLMOutput(logits="L")
    assert output[0] == "L"
    with pytest.raises(KeyError):
        _ = output["loss"]
    with pytest.raises(IndexError):
        _ = output[1]
    with pytest.raises(AttributeError, match="no field 'embeddings'"):
        _ = output.embeddings
    with pytest.raises(TypeError, match=r"no field \['embeddings'\]"):
        CausalLMOutput(embeddings=1)
    with pytest.raises(KeyError, match="embeddings"):
        output["embeddings"] = 1


def test_setting_keeps_the_order_of_the_fields():
    output = Wav2Vec2ForPreTrainingOutput(contrastive_loss=3)
    output.projected_states = 2
    output["loss"] = 1
    assert output.to_tuple() == (1, 2, 3)
    output.loss = None
    assert output.to_tuple() == (2, 3)


@pytest.mark.parametrize("kind", OUTPUT_CLASSES)
def test_rebuilt_from_a_mapping_and_pickled(kind):
    output = kind({name: index for index, name in enumerate(kind.field_names)})
    assert output.to_tuple() == tuple(range(len(kind.field_names)))
    again = pickle.loads(pickle.dumps(output))
    assert again == output
    assert type(again) is kind


def test_a_subclass_without_fields_of_its_own_keeps_them():
    class Mine(CausalLMOutput):
        pass

    assert Mine.field_names == CausalLMOutput.field_names
    assert Mine(logits=1).logits == 1
