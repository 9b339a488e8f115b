"""The example of Keras' fit."""

from example_programs import check_example


def test_keras_fit(tmp_path):
    check_example("keras_fit", tmp_path, "tf", "--epochs", 3, "--steps", 5)
