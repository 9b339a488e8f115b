"""The language model of a speech model: the folder ``language_model`` in pyctcdecode's format."""

from __future__ import annotations

import math
import reprlib
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from wav2vec2_core.errors import CheckpointError, listed
from wav2vec2_core.files import atomic_folder, read_json, write_json, write_text
from wav2vec2_core.language_model.kenlm_binary import HEAD_SIZE, is_kenlm_binary
from wav2vec2_core.language_model.line_blocks import COMPRESSED_SUFFIXES, LineBlocks

FOLDER, ATTRIBUTES, UNIGRAMS = "language_model", "attrs.json", "unigrams.txt"
#: Suffixes of a language model in the folder.
SUFFIXES = (".arpa", ".bin", ".binary")


@dataclass(frozen=True)
class Attributes:
    """``attrs.json``: weights of the search; the defaults are pyctcdecode's. See ``decoding.SearchOptions``."""

    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    score_boundary: bool = True

    @classmethod
    def load(cls, folder: Path) -> Attributes:
        """Read them from a folder ``language_model``. Raises ``CheckpointError``."""
        path = folder / ATTRIBUTES
        content = read_json(path)
        values = {field.name: content[field.name] for field in fields(cls) if field.name in content}
        if len(values) < len(fields(cls)) or len(content) > len(values):
            found, needed = listed(sorted(content)) or "nothing", listed(field.name for field in fields(cls))
            raise CheckpointError(f"{path} has {found}, it needs {needed}: mend it or attach the model again")
        for name, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not (isinstance(value, bool) if name == "score_boundary" else number):
                raise CheckpointError(
                    f"{path} has {name}={reprlib.repr(value)}: mend the value or attach the language model again"
                )
        return cls(**values)

    def save(self, folder: Path) -> None:
        """Write them into a folder ``language_model``, atomically. Raises ``OutputError``."""
        write_json(folder / ATTRIBUTES, asdict(self))


def find_model(folder: Path) -> Path:
    """The language model file in a folder ``language_model``.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    found = [path for path in sorted(folder.glob("*")) if path.suffix in SUFFIXES and not path.name.startswith(".")]
    if len(found) == 1:
        return found[0]
    what = "no language model" if not found else f"several language models ({', '.join(path.name for path in found)})"
    raise CheckpointError(f"{folder} has {what}, one file of {', '.join(SUFFIXES)} is needed: attach one")


def read_unigrams(path: Path) -> list[str]:
    """Read a file with one word per line; duplicates are dropped. Raises ``CheckpointError``."""
    with LineBlocks(path) as lines:
        return list(dict.fromkeys(word for line in lines.texts() if (word := line.strip())))


def write_language_model(folder: Path, language_model: Path, words: Iterable[str], attributes: Attributes) -> None:
    """Write the folder ``language_model`` into a model's folder, atomically. Raises ``OutputError``."""
    with atomic_folder(folder / FOLDER, mark=ATTRIBUTES) as target:
        _copy(language_model, target)
        write_text(target / UNIGRAMS, "".join(f"{word}\n" for word in words))
        attributes.save(target)


def _copy(language_model: Path, folder: Path) -> None:
    compressed = language_model.suffix in COMPRESSED_SUFFIXES
    name = language_model.stem if compressed else language_model.name
    if Path(name).suffix not in SUFFIXES:
        with language_model.open("rb") as file:
            name += ".binary" if is_kenlm_binary(file.read(HEAD_SIZE)) else ".arpa"
    if not compressed:
        shutil.copyfile(language_model, folder / name)
        return
    with LineBlocks(language_model) as lines, (folder / name).open("wb") as file:
        for block in lines.blocks():
            file.write(block)
