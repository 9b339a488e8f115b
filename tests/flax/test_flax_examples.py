"""The example of a loop over optax."""

from example_programs import check_example


def test_optax_loop(tmp_path):
    check_example("optax_loop", tmp_path, "flax", "--steps", 12)
