"""Recordings with their transcripts: manifests of fairseq, NeMo, Hugging Face and Common Voice, CSV and TSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2_core.errors import InputError, brief, listed
from wav2vec2_core.files import write_text

if TYPE_CHECKING:
    import numpy as np

    from wav2vec2_core.audio import Recording

#: Columns, or keys, that name a recording; the first one present is used.
PATH_COLUMNS = ("audio_filepath", "path", "file", "file_name", "filename", "audio", "audio_path", "wav")
#: Columns, or keys, that hold its transcript.
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence", "normalized_text")
#: Kinds of manifests that can be written.
KINDS = ("nemo", "csv", "tsv", "fairseq")
_KIND_OF_SUFFIX = {".jsonl": "nemo", ".json": "nemo", ".ndjson": "nemo", ".csv": "csv", ".tsv": "tsv"}
_MEANINGS = {*PATH_COLUMNS, *TEXT_COLUMNS, "offset", "duration"}  # of columns, which others may not take
_MOST_DIGITS = 18  # of a number of samples: of 2 million years
_FAIRSEQ_RATE = 16_000  # hertz; fairseq trains on nothing else


@dataclass(frozen=True)
class Utterance:
    """A recording, or a stretch of one, and its text.

    path: where the recording is; text: ``None`` where the manifest does not say; offset: seconds from the start of the
    recording; duration: seconds, ``None`` for all that follows; samples: of the whole recording at its own rate, where
    a fairseq manifest says so; columns: everything else that the manifest says of it, such as a label or a speaker;
    content: returns the recording where it is no file of its own: its bytes, samples and their rate, or a path; then
    ``path`` is its name.
    """

    path: Path
    text: str | None = None
    offset: float = 0.0
    duration: float | None = None
    samples: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    content: Callable[[], bytes | tuple[np.ndarray, int] | Path] | None = field(default=None, compare=False, repr=False)

    def recording(self, **reading: Any) -> Recording:
        """The recording, or the stretch of it that this is.

        ``reading``: as ``Recording.open`` takes it: ``channel``, ``track``, ``on_damage`` ...

        Raises:
            AudioError: there is no such recording.
        """
        from wav2vec2_core.audio import Recording
        from wav2vec2_core.audio.reading import any_error_as_audio_error
        from wav2vec2_core.audio.recording import printable

        end = None if self.duration is None else self.offset + self.duration
        if self.content is None:
            return Recording.open(self.path, self.offset, end, **reading)
        name = printable(self.path)
        with any_error_as_audio_error(name):
            found = self.content()
        if isinstance(found, bytes):
            return Recording.from_bytes(found, self.offset, end, name=name, **reading)
        if isinstance(found, tuple):
            return Recording.of(*found, self.offset, end, name=name, **reading)
        return Recording.open(found, self.offset, end, **reading)


def read_manifest(path: str | os.PathLike[str]) -> Iterator[Utterance]:
    """The utterances of a manifest, one by one; relative paths start at the manifest's folder.

    ``.jsonl`` and ``.json``: an object a line, with a key of ``PATH_COLUMNS`` and maybe one of ``TEXT_COLUMNS``,
    ``offset`` and ``duration`` (NeMo, Hugging Face's ``metadata.jsonl``).
    ``.csv``, ``.tsv``: the same as columns that the first line names (Hugging Face's ``metadata.csv``; Common Voice,
    whose recordings are in ``clips``). Quotes mean nothing in ``.tsv``.
    ``.tsv`` whose first line is a folder: fairseq's, with transcripts in a ``.wrd`` or ``.ltr`` file beside it.

    Raises:
        InputError: the manifest is missing, not UTF-8, or names no recording, or a line is not what it should be; the
            message has the line's number. Whether the recordings exist is not checked.
    """
    path = Path(path)
    kind = _KIND_OF_SUFFIX.get(path.suffix.lower())
    if kind is None and not path.exists():
        raise InputError(f"{brief(str(path))} does not exist: check the path")
    if kind is None:
        raise InputError(f"{path} has no suffix of a manifest: name it {', '.join(_KIND_OF_SUFFIX)}")
    if kind == "tsv" and _is_fairseq(path):
        kind = "fairseq"
    readers = {
        "nemo": _read_json_lines,
        "csv": lambda path: _read_table(path, _csv_records(path)),
        "tsv": lambda path: _read_table(path, _tsv_records(path)),
        "fairseq": _read_fairseq,
    }
    empty = True
    for utterance in readers[kind](path):
        empty = False
        yield utterance
    if empty:
        raise InputError(f"{path} names no recordings: add some")


def write_manifest(path: str | os.PathLike[str], utterances: Iterable[Utterance], kind: str | None = None) -> None:
    """Write a manifest; recordings in its folder or below are named relative to it, others by their full path.

    Columns are written too, but not those of another path or text, and none to fairseq's.

    Args:
        path: the manifest. ``metadata.csv`` and ``metadata.jsonl`` are Hugging Face's: recordings are ``file_name``.
        utterances: in order.
        kind: one of ``KINDS``; by default the one of the suffix. ``fairseq`` writes ``.ltr`` and ``.wrd`` beside it.

    Raises:
        InputError: the kind is unknown or cannot hold an utterance.
        AudioError: a fairseq manifest needs the length of a recording and that cannot be read.
        OutputError: a file cannot be written.
    """
    path = Path(path)
    kind = kind or _KIND_OF_SUFFIX.get(path.suffix.lower())
    if kind not in KINDS:
        raise InputError(f"{path} as a manifest of kind {kind!r:.100} is unknown: use one of {', '.join(KINDS)}")
    utterances = list(utterances)
    stored = next((utterance for utterance in utterances if utterance.content is not None), None)
    if stored is not None:
        raise InputError(f"{stored.path} is no file of its own, and manifests name files: write it to one first")
    if kind == "fairseq":
        _write_fairseq(path, utterances)
        return
    rows = [_row(path, utterance) for utterance in utterances]
    if kind == "nemo":
        lines = "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
        # Bytes of a name that are not UTF-8 become escapes of JSON, from which a reader has the same name back.
        write_text(path, lines.encode("utf-8", "backslashreplace").decode())
        return
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["path", "text"]
    table = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    if kind == "csv":
        content = io.StringIO()
        cells = [[_utf8(path, _text(value)) for value in row] for row in table]
        csv.writer(content).writerows(cells)  # ends lines as RFC 4180 says, and so quotes both halves of that end
        write_text(path, content.getvalue())
    else:
        write_text(path, "".join("\t".join(_cell(path, value) for value in cells) + "\n" for cells in table))


# ---- reading --------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line, with its end. Raises ``InputError``."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number} is not UTF-8: save the manifest as UTF-8") from error
    except OSError as error:
        raise InputError(f"manifest {path} cannot be read ({error.strerror}): check the path") from error


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without their ends."""
    for number, line in _lines(path):
        if line.strip():
            yield number, line.rstrip("\r\n")


def _is_fairseq(path: Path) -> bool:
    """Whether a ``.tsv`` begins with the folder of its recordings instead of the names of columns."""
    _, first = next(_rows(path), (0, ""))
    return bool(first) and "\t" not in first and first.strip().lower() not in PATH_COLUMNS


def _read_json_lines(path: Path) -> Iterator[Utterance]:
    for number, line in _rows(path):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not JSON ({error}): a manifest has one JSON object a line") from error
        if not isinstance(entry, dict):
            raise InputError(f"{where} is a JSON {type(entry).__name__}: a manifest has one JSON object a line")
        yield _utterance(entry, _columns(entry, where), path.parent, where)


def _read_table(path: Path, records: Iterator[tuple[int, list[str]]]) -> Iterator[Utterance]:
    """The first record names the columns of the others."""
    number, header = next(records, (0, []))
    if not number:
        return
    columns, folder = _columns(header, f"{path}, line {number}"), _folder(path, header)
    for number, cells in records:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise InputError(f"{where} has {len(cells)} columns, the first line names {len(header)}: mend that line")
        yield _utterance(dict(zip(header, cells, strict=True)), columns, folder, where)


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and cells, of every record. Raises ``InputError``."""
    last = 0  # line on which the last record ended: a quoted cell can hold line breaks
    records = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        for cells in records:
            if cells:
                yield last + 1, cells
            last = records.line_num
    except csv.Error as error:
        raise InputError(f"{path}, line {last + 1} is not CSV ({error}): quote cells that hold quotes") from error


def _tsv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in _rows(path):
        yield number, line.split("\t")


def _read_fairseq(path: Path) -> Iterator[Utterance]:
    labels = next((file for suffix in (".wrd", ".ltr") if (file := path.with_suffix(suffix)).is_file()), None)
    texts = None if labels is None else (line.rstrip("\r\n") for _, line in _lines(labels))
    rows = _rows(path)
    root = path.parent / next(rows)[1].strip()
    for number, line in rows:
        name, _, samples = line.rpartition("\t")
        if not name or not samples.isdecimal() or len(samples) > _MOST_DIGITS:
            raise InputError(f"{path}, line {number} is not a path, a tab and a number of samples: {line[:80]!r:.100}")
        text = None if texts is None else next(texts, None)
        if labels is not None and text is None:
            raise InputError(f"{labels} has no line for line {number} of {path}: it needs one for each recording")
        if text is not None and labels is not None and labels.suffix == ".ltr":
            text = "".join(text.split()).replace("|", " ").strip()
        yield Utterance(root / name, text, samples=int(samples))
    if texts is not None and next(texts, None) is not None:
        raise InputError(f"{labels} has more lines than {path} names recordings: it needs one for each")


def _columns(names: Iterable[str], where: str) -> tuple[str, str | None]:
    """The names of the path and of the text among ``names``. Raises ``InputError``."""
    known = {name.strip().lower(): name for name in reversed([*names])}
    found = next((known[name] for name in PATH_COLUMNS if name in known), None)
    if found is None:
        raise InputError(
            f"{where} names no recording: it has {listed(known) or 'nothing'}, needed is one of "
            f"{', '.join(PATH_COLUMNS)}"
        )
    return found, next((known[name] for name in TEXT_COLUMNS if name in known), None)


def _folder(path: Path, header: Sequence[str]) -> Path:
    """Where relative paths start; Common Voice keeps its recordings in ``clips``."""
    clips = path.parent / "clips"
    return clips if "client_id" in header and clips.is_dir() else path.parent


def _utterance(entry: Mapping[str, Any], columns: tuple[str, str | None], folder: Path, where: str) -> Utterance:
    path, text = entry[columns[0]], None if columns[1] is None else entry[columns[1]]
    if not isinstance(path, str) or not path.strip():
        raise InputError(f"{where} has {columns[0]}={brief(path)}: it must be the path of a recording")
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where} has {columns[1]}={brief(text)}: it must be text")
    try:
        os.fsencode(path)  # bytes of a name that are not UTF-8 are escapes that it knows
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} has half of a character ({error.object[error.start]!a}): write it whole") from error
    offset = _seconds(entry.get("offset"), "offset", where)
    duration = _seconds(entry.get("duration"), "duration", where)
    used = {*columns, "offset", "duration"}
    others = {name: value for name, value in entry.items() if name not in used}
    return Utterance(folder / path, text, offset or 0.0, duration, columns=others)


def _seconds(value: Any, name: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 <= seconds < math.inf or (name == "duration" and seconds == 0):
        rule = "a positive number" if name == "duration" else "0 or a positive number"
        raise InputError(f"{where} has {name}={brief(value)}: it must be {rule} of seconds")
    return seconds


# ---- writing --------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """What a row says as JSON, keys in order; values that JSON does not have become lists or texts."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)
    return text.encode("utf-8", "backslashreplace")


def _plain(value: Any) -> Any:
    """What JSON can hold of another value: that of an array, otherwise its text."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _row(manifest: Path, utterance: Utterance) -> dict[str, Any]:
    if manifest.stem == "metadata":
        name = "file_name"
    else:
        name = "path" if manifest.suffix.lower() in (".csv", ".tsv") else "audio_filepath"
    row: dict[str, Any] = {name: _relative(utterance.path, manifest.parent)}
    if utterance.duration is not None:
        row["duration"] = utterance.duration
    if utterance.text is not None:
        row["text"] = utterance.text
    if utterance.offset:
        row["offset"] = utterance.offset
    others = {key: value for key, value in utterance.columns.items() if key.strip().lower() not in _MEANINGS}
    return row | others


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _cell(manifest: Path, value: Any) -> str:
    text = _text(value)
    if any(mark in text for mark in "\t\n\r"):
        raise InputError(f"{text!r} holds a tab or a line break, which {manifest} cannot hold: write .csv or .jsonl")
    return _utf8(manifest, text)


def _text(value: Any) -> str:
    """A value for a table: a text as it is, nothing for ``None``, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else to_json(value).decode()


def _utf8(manifest: Path, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r:.100} is not UTF-8, which {manifest} must be: write .jsonl, or rename it") from error
    return text


def _write_fairseq(path: Path, utterances: Sequence[Utterance]) -> None:
    from wav2vec2_core.audio import audio_duration

    cut = next((u for u in utterances if u.offset or u.duration is not None), None)
    if cut is not None:
        raise InputError(f"{cut.path} is used in part, which fairseq manifests cannot say: cut the recording first")
    folder = os.path.commonpath([u.path.absolute().parent for u in utterances]) if utterances else "."
    lines = [f"{folder}\n"]
    for utterance in utterances:
        samples = utterance.samples or round(audio_duration(utterance.path) * _FAIRSEQ_RATE)
        lines.append(f"{_cell(path, _relative(utterance.path, Path(folder)))}\t{samples}\n")
    texts = [u.text for u in utterances]
    words = [" ".join(text.split()) for text in texts if text is not None]
    if len(words) not in (0, len(texts)):
        raise InputError(
            f"{len(texts) - len(words)} of {len(texts)} utterances have no text: give it to all or to none"
        )
    if words:
        write_text(path.with_suffix(".wrd"), "".join(f"{text}\n" for text in words))
        write_text(path.with_suffix(".ltr"), "".join(f"{' '.join(text.replace(' ', '|'))} |\n" for text in words))
    write_text(path, "".join(lines))
