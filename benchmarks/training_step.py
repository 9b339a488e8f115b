"""A training step of the three back ends beside each other: same weights, same batch, one process each, processor time.

    pip install -c constraints.txt -e ".[torch,tf,flax,train]"
    python benchmarks/training_step.py                        # the embedded model, 8 x 3.5 s, convolutions frozen
    python benchmarks/training_step.py --backends torch,flax --rounds 20
    python benchmarks/training_step.py --backends torch,transformers      # needs transformers==4.57.6

Every back end has a process of its own with one thread; they take turns, so that a busy machine slows all alike.
A figure is the median of a back end's processor seconds; ratios are of steps of the same round (1: the fastest).
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.backend import load_backend
from wav2vec2_core.checkpoint import open_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import training_batch
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.source import open_model
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_core.training.finetuning import training_config
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_core.training.steps import StepValues, Trainer

EMBEDDED = Path(__file__).parents[1] / "wav2vec2_core" / "assets" / "demo-digits"
RATE = 16_000
DROPOUTS = ("feat_proj_dropout", "hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout")
BACKENDS = ("torch", "tf", "flax")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def main() -> None:
    """Measure and print, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS), help="names with commas")
    parser.add_argument("--model", default="embedded", help="folder of a CTC model; the digits model by default")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe, such as model.layerdrop=0")
    parser.add_argument("--profile", choices=("torch", "transformers"), help="where a step's time goes, instead")
    parser.add_argument("--steps-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profile(options)
        return
    if options.steps_of:
        serve(options)
        return
    names = options.backends.split(",")
    processes = {name: start(name, options) for name in names}
    first = {name: float(ask(process)) for name, process in processes.items()}
    for process in processes.values():
        ask(process)  # a second step without compiling, before the rounds
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, process in processes.items():
            times[name].append(float(ask(process)))
    for process in processes.values():
        process.communicate("\n")
    print(
        f"{options.model}, {options.rows} x {options.seconds:g} s, {options.dtype}, one thread, {options.rounds} rounds"
    )
    best = min(names, key=lambda name: statistics.median(times[name]))
    for name in names:
        ratios = [one / other for one, other in zip(times[name], times[best], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"  {name}: {statistics.median(times[name]):.3f} CPU s a step, first step {first[name]:.1f}; "
            f"{statistics.median(ratios):.2f} x {best} (quartiles {low:.2f} to {high:.2f})"
        )


def start(name: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that makes a step for each line that it is sent."""
    command = [sys.executable, __file__, "--steps-of", name, "--model", options.model]
    command += ["--rows", str(options.rows), "--seconds", str(options.seconds), "--dtype", options.dtype]
    command += [part for one in options.set for part in ("--set", one)]
    environment = {**os.environ, **ONE_THREAD}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(process: subprocess.Popen[str]) -> str:
    """Processor seconds of one more step."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("a back end's process ended: see its message above")
    return answer


def serve(options: argparse.Namespace) -> None:
    """Make steps for the lines of standard input, and print their processor seconds."""
    trainer, batch = prepare(options)
    for number, line in enumerate(sys.stdin):
        if line.strip() != "step":
            break
        begin = time.process_time()
        trainer.fetch(trainer.step([batch], number, StepValues(1e-5, options.rows, clip=1.0)))
        print(time.process_time() - begin, flush=True)


def profile(options: argparse.Namespace) -> None:
    """Print the operators of PyTorch with the largest shares of a step's time, those in backward passes among them."""
    import torch

    torch.set_num_threads(1)
    options.steps_of = options.profile
    trainer, batch = prepare(options)

    def steps(count: int) -> None:
        for number in range(count):
            trainer.fetch(trainer.step([batch], number, StepValues(1e-5, options.rows, clip=1.0)))

    steps(2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        steps(options.rounds)
    operators = sorted(found.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in operators)
    print(f"{options.profile}, {options.dtype}: {total / options.rounds / 1000:.0f} ms a step")
    for one in operators[:20]:
        print(f"  {one.self_cpu_time_total / total:6.1%} {one.count / options.rounds:6.0f} calls  {one.key}")


def prepare(options: argparse.Namespace) -> tuple[Trainer, dict[str, np.ndarray]]:
    """A trainer of a model with dropout everywhere, its convolutions frozen, and a batch of noise with some letters."""
    source = open_model(EMBEDDED if options.model == "embedded" else options.model)
    recipe = read_recipe("10min").changed(
        [*(f"model.{name}=0.1" for name in DROPOUTS), f'compute.dtype="{options.dtype}"', *options.set]
    )
    tokenizer, checkpoint = Wav2Vec2CTCTokenizer.from_source(source), open_checkpoint(source)
    config = training_config(Wav2Vec2Config.from_source(source), recipe)
    config = config.replace(pad_token_id=tokenizer.pad_token_id, ctc_loss_reduction="mean")
    if options.steps_of == "transformers":
        trainer: Any = Theirs(source.name, config)
    else:
        trainer = load_backend(options.steps_of).finetuning.new_trainer(checkpoint, config, recipe, head="ForCTC")
        trainer.set_trainable(trainable_names(config, "ForCTC", frozen="feature_encoder"))
    generator = np.random.default_rng(0)
    waveforms = list(generator.standard_normal((options.rows, round(options.seconds * RATE)), np.float32))
    labels = generator.integers(5, config.vocab_size, (options.rows, 12), np.int32)
    return trainer, training_batch(waveforms, range(options.rows), config, seed=0, step=0) | {"labels": labels}


class Theirs:
    """transformers' model, with steps as its own Trainer makes them: fused Adam, clipping, masks that it draws."""

    def __init__(self, folder: str, config: Wav2Vec2Config) -> None:
        import torch
        from transformers import Wav2Vec2ForCTC

        names = (
            *DROPOUTS,
            "layerdrop",
            "mask_time_prob",
            "mask_feature_prob",
            "mask_time_length",
            "mask_feature_length",
        )
        fields = {name: getattr(config, name) for name in (*names, "apply_spec_augment", "ctc_loss_reduction")}
        self.model: Any = Wav2Vec2ForCTC.from_pretrained(folder, **fields).train()
        self.model.freeze_feature_encoder()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, fused=True)

    def step(self, micro: list[dict[str, np.ndarray]], number: int, values: StepValues) -> Any:
        """One update; the loss."""
        import torch

        names = ("input_values", "attention_mask", "labels")
        self.optimizer.param_groups[0]["lr"] = values.learning_rate
        self.optimizer.zero_grad()
        loss = self.model(**{name: torch.from_numpy(micro[0][name]) for name in names}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, values.clip or math.inf)
        self.optimizer.step()
        return loss

    def fetch(self, handle: Any) -> None:
        """Wait for it."""
        handle.item()


if __name__ == "__main__":
    main()
