"""The example of the Trainer of transformers."""

from example_programs import check_example


def test_transformers_trainer(tmp_path):
    check_example("transformers_trainer", tmp_path, "torch", "--steps", 12)
