"""Folders of recordings: with texts beside them, or with a folder for each class."""

from __future__ import annotations

from pathlib import Path

from wav2vec2_core.audio.selection import recordings_in
from wav2vec2_core.data.manifest import Utterance, read_manifest
from wav2vec2_core.errors import InputError

#: Manifests that a folder is read by, if it has one: Hugging Face's.
_MANIFESTS = ("metadata.csv", "metadata.jsonl")
#: The column of the class that a folder stands for.
LABEL = "label"


def read_folder(folder: Path) -> list[Utterance]:
    """The recordings of a folder and of the folders in it, by name.

    A ``metadata.csv`` or ``metadata.jsonl`` says all, if there is one. Otherwise ``1.txt`` is the text of ``1.flac``,
    and a line of LibriSpeech's ``*.trans.txt`` that of the recording whose name it begins with. Where no recording has
    a text, the name of the folder that a recording is in is its class, in the column ``label``.

    Raises:
        InputError: there is no recording, or a text is not UTF-8.
        AudioError: a folder cannot be read.
    """
    for name in _MANIFESTS:
        if (folder / name).is_file():
            return list(read_manifest(folder / name))
    paths = list(recordings_in(folder, recursive=True))
    if not paths:
        raise InputError(f"folder {folder} holds no recording, no .tar and no metadata.csv: name another")
    lines = {parent: _transcripts(parent) for parent in {path.parent for path in paths}}
    texts = [_text_beside(path, lines[path.parent]) for path in paths]
    if any(text is not None for text in texts):
        return [Utterance(path, text) for path, text in zip(paths, texts, strict=True)]
    return [Utterance(path, columns={LABEL: path.parent.name} if path.parent != folder else {}) for path in paths]


def _transcripts(folder: Path) -> dict[str, str]:
    """Name of a recording without its end -> text, of the ``*.trans.txt`` in a folder."""
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*.trans.txt")):
        for line in _content(file).splitlines():
            name, _, text = line.strip().partition(" ")
            texts[name] = text.strip()
    return texts


def _text_beside(path: Path, transcripts: dict[str, str]) -> str | None:
    beside = path.with_suffix(".txt")
    return _content(beside).strip() if beside.is_file() else transcripts.get(path.stem)


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8: save the text as UTF-8") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
