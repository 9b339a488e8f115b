"""Fine-tune a CTC model with the ``Trainer`` of transformers: our PyTorch model, and our loader's batches.

    python examples/transformers_trainer.py train.jsonl --output my-model

The data are recordings with texts: a manifest, a folder or tar shards. Needs
`pip install "wav2vec2[torch]" transformers accelerate`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC


class Batches(torch.utils.data.IterableDataset):
    """The micro-batches of all steps, without end. Masks and layer drop are drawn by the loader."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for data in self.loader:
            yield from data.micro


def collate(batches: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """What the data loader took together, one batch, as tensors."""
    (batch,) = batches
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Train and save; returns the losses that the trainer noted."""
    parser = argparse.ArgumentParser(description="Fine-tune a CTC model with the Trainer of transformers.")
    parser.add_argument("data", help="recordings with texts")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="folder or hub id; the digits model if not given")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--steps", type=int, default=1000, help="updates")
    parser.add_argument("--batch-seconds", type=float, default=30, help="audio of an update")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)

    processor = Wav2Vec2Processor.from_pretrained(options.model)
    model = Wav2Vec2ForCTC.from_pretrained(
        options.model, ctc_loss_reduction="mean", ctc_zero_infinity=True, masked_group_norm=True
    )
    model.freeze_feature_encoder()

    extractor, labels = processor.feature_extractor, TextLabels(processor.tokenizer, model.config)
    checked = check_rows(
        open_rows(options.data), labels, model.config, extractor.sampling_rate, longest_seconds=options.batch_seconds
    )
    loader = Loader(
        checked.rows, extractor, model.config, labels, batch_seconds=options.batch_seconds,
        micro_batch_seconds=options.batch_seconds, seed=0,
    )  # fmt: skip

    settings = transformers.TrainingArguments(
        output_dir=options.output / "trainer",
        max_steps=options.steps,
        per_device_train_batch_size=1,  # one batch of the loader, which holds several recordings
        learning_rate=options.learning_rate,
        warmup_steps=options.steps // 10,
        lr_scheduler_type="cosine",
        logging_steps=max(options.steps // 100, 1),
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model, settings, collate, Batches(loader))
    trainer.train()

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f"wav2vec2 transcribe --model {options.output} RECORDING")
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    main()
