"""Fine-tune a CTC model with Keras' own ``compile`` and ``fit``, on the batches of our loader.

    python examples/keras_fit.py train.jsonl --output my-model

The data are recordings with texts: a manifest, a folder or tar shards. Needs `pip install "wav2vec2[tf]"`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_tf import TFWav2Vec2ForCTC

import keras  # isort: skip  after wav2vec2_tf, which makes sure that Keras runs on TensorFlow


def dataset_of(loader: Loader) -> tf.data.Dataset:
    """The micro-batches of all steps, without end. Masks and layer drop are drawn by the loader."""
    example = loader.at(0).micro[0]
    signature = {name: tf.TensorSpec([None] * array.ndim, array.dtype) for name, array in example.items()}

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for data in loader:
            yield from data.micro

    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Train and save; returns the loss of each epoch."""
    parser = argparse.ArgumentParser(description="Fine-tune a CTC model with Keras.")
    parser.add_argument("data", help="recordings with texts")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="folder or hub id; the digits model if not given")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100, help="updates in an epoch")
    parser.add_argument("--batch-seconds", type=float, default=30, help="audio of an update")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)

    processor = Wav2Vec2Processor.from_pretrained(options.model)
    model = TFWav2Vec2ForCTC.from_pretrained(
        options.model, ctc_loss_reduction="mean", ctc_zero_infinity=True, masked_group_norm=True
    )
    model.freeze_feature_encoder()

    extractor, labels = processor.feature_extractor, TextLabels(processor.tokenizer, model.config)
    checked = check_rows(
        open_rows(options.data), labels, model.config, extractor.sampling_rate, longest_seconds=options.batch_seconds
    )
    loader = Loader(
        checked.rows, extractor, model.config, labels, batch_seconds=options.batch_seconds,
        micro_batch_seconds=options.batch_seconds, seed=0, few_shapes=True,
    )  # fmt: skip

    updates = options.epochs * options.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, updates, warmup_target=options.learning_rate, warmup_steps=updates // 10
    )
    model.compile(optimizer=keras.optimizers.AdamW(schedule, global_clipnorm=1.0))
    history = model.fit(
        dataset_of(loader), epochs=options.epochs, steps_per_epoch=options.steps, shuffle=False, verbose=2
    )

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f"wav2vec2 transcribe --model {options.output} RECORDING")
    return history.history["loss"]


if __name__ == "__main__":
    main()
