"""Names and shapes of released models as transformers creates them: every kind of file maps onto the table."""

import pytest

from conformance import golden
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import num_parameters, parameter_table
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_core.weight_files.flax_msgpack import flax_name
from wav2vec2_core.weight_files.tf_h5 import checkpoint_name

LAYOUTS = golden.layouts()


def in_checkpoint(file, name):
    """(name in a checkpoint, whether the axes are in reverse order) of a name in a file."""
    if file == "torch":
        return canonical_name(name), False
    return checkpoint_name(name) if file == "tf" else flax_name(tuple(name.split("/")))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.file}-{layout.model}")
def test_names_and_shapes(layout):
    config = Wav2Vec2Config(**layout.config)
    expected = {name: row.shape for name, row in parameter_table(config, layout.head).items()}
    found = {}
    for place, shape in layout.shapes.items():
        name, reverse = in_checkpoint(layout.file, place)
        assert name not in found
        found[name] = shape[::-1] if reverse else shape
    assert found == expected


def test_what_is_recorded():
    assert {layout.file for layout in LAYOUTS} == {"torch", "tf", "flax"}
    sizes = {
        layout.model: sum(_size(shape) for shape in layout.shapes.values())
        for layout in LAYOUTS
        if layout.file == "torch"
    }
    assert sizes["facebook/wav2vec2-base"] == 95_044_608
    assert sizes["facebook/wav2vec2-base-960h"] == 94_396_320
    assert sizes["facebook/wav2vec2-large-lv60"] == 317_390_592
    assert sizes["facebook/mms-1b-all"] == num_parameters(Wav2Vec2Config.preset("mms-1b", vocab_size=154), "ForCTC")


def test_folding_keeps_everything():
    shapes = {f"a.encoder.layers.{layer}.fc.weight": (3, 2) for layer in range(12)} | {"encoder.layers_of.bias": (2,)}
    rows, layers = golden.folded(shapes)
    assert layers == 12
    assert len(rows) == 2
    assert golden.unfolded(rows, layers) == shapes
    with pytest.raises(InputError, match="not alike"):
        golden.folded({**shapes, "a.encoder.layers.3.fc.weight": (3, 4)})
    with pytest.raises(InputError, match="not alike"):
        golden.folded({name: shape for name, shape in shapes.items() if ".3." not in name})


def _size(shape):
    total = 1
    for axis in shape:
        total *= axis
    return total
