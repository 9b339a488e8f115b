"""Fine-tune a CTC model in JAX with a loop of one's own: our loader and loss, optax' optimizer and schedule.

    python examples/optax_loop.py train.jsonl --output my-model

The data are recordings with texts: a manifest, a folder or tar shards. Needs `pip install "wav2vec2[flax]"`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import optax

from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_flax import FlaxWav2Vec2ForCTC
from wav2vec2_flax.train import freeze, init_state, train_step


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Train and save; returns the loss of each update."""
    parser = argparse.ArgumentParser(description="Fine-tune a CTC model with JAX and optax.")
    parser.add_argument("data", help="recordings with texts")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="folder or hub id; the digits model if not given")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--steps", type=int, default=1000, help="updates")
    parser.add_argument("--batch-seconds", type=float, default=30, help="audio of an update")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)

    processor = Wav2Vec2Processor.from_pretrained(options.model)
    model = FlaxWav2Vec2ForCTC.from_pretrained(
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

    schedule = optax.warmup_cosine_decay_schedule(
        0.0, options.learning_rate, options.steps // 10, options.steps, end_value=options.learning_rate / 20
    )
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
    optimizer = freeze(adam, model.trainable)
    state = init_state(model, optimizer)
    step = jax.jit(train_step(model, optimizer), donate_argnums=0)

    losses = []
    for data in loader.steps(0, options.steps):
        for batch in data.micro:  # one, as a micro-batch may be as long as an update
            state, metrics = step(state, batch, jax.random.key(0))
            losses.append(float(metrics["loss"]))
        print(f"update {data.number + 1}, epoch {data.epoch + 1}: loss {losses[-1]:.3f}")

    model.save_pretrained(options.output, state.params)
    processor.save_pretrained(options.output)
    print(f"wav2vec2 transcribe --model {options.output} RECORDING")
    return losses


if __name__ == "__main__":
    main()
