"""Recordings and their manifest, as the commands read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from sounds import RATE

Spoken = tuple[str, np.ndarray]  # text, samples


def write(folder: Path, name: str, utterances: Iterable[Spoken], *, label: bool = False, kind: str = "wav") -> None:
    """Write recordings into ``folder/name`` and their manifest beside it, their text as a label if asked for.

    kind: wav or flac. Nothing is written where there are no utterances.
    """
    (folder / name).mkdir(parents=True)
    lines: list[str] = []
    seconds = 0.0
    for number, (text, samples) in enumerate(utterances):
        path = Path(name) / f"{number:05d}.{kind}"
        loudest = max(1.0, 1.02 * float(np.max(np.abs(samples), initial=0)))
        soundfile.write(folder / path, samples / loudest, RATE, subtype="PCM_16")
        lines.append(json.dumps({"audio_filepath": path.as_posix(), "label" if label else "text": text}))
        seconds += len(samples) / RATE
    if not lines:
        shutil.rmtree(folder / name)
        return
    (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{name}: {len(lines)} utterances, {seconds / 60:.1f} minutes", flush=True)
