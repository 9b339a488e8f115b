"""The files of a model beside its weights: vocabulary, feature extractor, language model, model card, adapters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2vec2_core.checkpoint import ModelSource, read_adapter
from wav2vec2_core.errors import CheckpointError, InputError, OutputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import read_json, write_json, write_text
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer, is_nested
from wav2vec2_core.weight_files.arrays import LazyArray, numpy_dtype
from wav2vec2_core.weight_files.checkpoint import Checkpoint
from wav2vec2_core.weight_files.fairseq import DICTIONARY, fairseq_rows, read_dictionary
from wav2vec2_core.weight_files.safetensors_file import write_safetensors
from wav2vec2_core.weight_files.sentencepiece_file import SPACE, ctc_rows, read_pieces
from wav2vec2_core.weight_files.torch_writing import write_torch_file

#: Files that are the same whatever the weights are stored as.
CARRIED = (
    "vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json",
    "processor_config.json", "alphabet.json", "README.md",
)  # fmt: skip
LANGUAGE_MODEL = "language_model"


def carry_files(source: ModelSource, folder: Path) -> list[str]:
    """Copy the files of ``CARRIED`` and the language model into ``folder``; return their names.

    Raises:
        CheckpointError: a file cannot be read.
        OutputError: a file cannot be written.
    """
    carried = []
    for name in (*CARRIED, *source.files_below(LANGUAGE_MODEL)):
        path = source.find(name)
        if path is None:
            continue
        target = folder / name
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        except OSError as error:
            raise OutputError(f"{path} cannot be copied to {target} ({error.strerror}): check both") from error
        carried.append(name)
    return carried


def carry_adapters(source: ModelSource, folder: Path, *, as_torch: bool) -> dict[str, Checkpoint]:
    """Write the language adapters as safetensors, or as PyTorch files; return what was read, by the new file's name.

    Raises:
        CheckpointError: an adapter is damaged.
        OutputError: a file cannot be written.
    """
    adapters = {}
    for language in source.adapter_languages():
        checkpoint = read_adapter(source, language)
        name = f"adapter.{language}.{'bin' if as_torch else 'safetensors'}"
        (write_torch_file if as_torch else write_safetensors)(folder / name, lazy_arrays(checkpoint))
        adapters[name] = checkpoint
    return adapters


def lazy_arrays(checkpoint: Checkpoint, names: Mapping[str, str] | None = None) -> dict[str, LazyArray]:
    """The arrays of a checkpoint without reading them; ``names``: new name -> the checkpoint's, all where None."""
    names = {name: name for name in checkpoint.shapes} if names is None else names

    def lazy(stored: str) -> LazyArray:
        dtype = numpy_dtype(checkpoint.dtypes[stored])
        return LazyArray(checkpoint.shapes[stored], dtype, lambda: checkpoint.read(stored))

    return {name: lazy(stored) for name, stored in names.items()}


# ---- vocabularies -------------------------------------------------------------------------------------------------


def read_vocabulary(path: Path) -> dict[str, int]:
    """Row of the head by token, of fairseq's ``dict.ltr.txt``, a ``vocab.json`` or a SentencePiece ``.model``.

    Raises:
        CheckpointError: the file is none of these, or damaged.
    """
    if path.suffix == ".model":
        return ctc_rows(read_pieces(path))
    if path.suffix != ".json":
        return read_dictionary(path)
    vocabulary = read_json(path)
    if not vocabulary or not all(type(row) is int and row >= 0 for row in vocabulary.values()):
        raise CheckpointError(f"{path} does not give a row to each token: use the vocab.json of one language")
    return vocabulary


def check_rows(vocabulary: Mapping[str, int], rows: int) -> None:
    """Raise ``CheckpointError`` unless every row of the head has one token."""
    if sorted(vocabulary.values()) != list(range(rows)):
        raise CheckpointError(
            f"the vocabulary has {len(vocabulary)} tokens, the head {rows} rows: use the {DICTIONARY} or "
            "vocab.json that belongs to this checkpoint"
        )


def write_processor(
    folder: Path, vocabulary: Mapping[str, int] | None, rows: int, *, do_normalize: bool, with_mask: bool
) -> list[str]:
    """Write the files of a feature extractor and, with a vocabulary, of a tokenizer; return their names.

    Args:
        folder: where to.
        vocabulary: row by token; None where nobody knows it.
        rows: of the head.
        do_normalize: whether audio is normalised.
        with_mask: whether the model was trained with padding masked, as those with layer norm in the convolutions.

    Raises:
        CheckpointError: the vocabulary has another size than the head.
        OutputError: a file cannot be written.
    """
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=with_mask)
    before = {path.name for path in folder.iterdir()}
    if vocabulary is None:
        extractor.save_pretrained(folder)
    else:
        check_rows(vocabulary, rows)
        write_json(folder / "vocab.json", dict(vocabulary))
        delimiter = SPACE if SPACE in vocabulary else "|"
        tokenizer = Wav2Vec2CTCTokenizer(vocab_file=folder / "vocab.json", word_delimiter_token=delimiter)
        Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    return sorted({path.name for path in folder.iterdir()} - before)


@dataclass(frozen=True)
class FairseqVocabulary:
    """Tokens in fairseq's order. rows: for every row of the new head the row of ours, None for a new one."""

    symbols: list[str]
    rows: list[int | None]

    @property
    def moves(self) -> bool:
        """Whether any row changes its place."""
        return self.rows != list(range(len(self.rows)))

    def write(self, folder: Path) -> None:
        """Write ``dict.ltr.txt``; its counts, which nothing reads, are 1. Raises ``OutputError``."""
        write_text(folder / DICTIONARY, "".join(f"{symbol} 1\n" for symbol in self.symbols))

    def rearrange(self, array: LazyArray, *, bias: bool) -> LazyArray:
        """``lm_head.weight`` or, with ``bias``, ``lm_head.bias`` with its rows in fairseq's order.

        A new row, of a special token that the vocabulary lacks, has weights 0 and a bias so low that its probability
        is 0.
        """
        if not self.moves:
            return array

        def load() -> np.ndarray:
            values = array.load()
            new = np.zeros((len(self.rows), *values.shape[1:]), values.dtype)
            for row, old in enumerate(self.rows):
                if old is not None:
                    new[row] = values[old]
                elif bias:
                    new[row] = _NEVER
            return new

        return LazyArray((len(self.rows), *array.shape[1:]), array.dtype, load)


_NEVER = -1e4  # a logit; within the range of float16


def fairseq_vocabulary(source: ModelSource, rows: int) -> FairseqVocabulary | None:
    """The vocabulary of a folder as fairseq wants it; None where the folder has none.

    Raises:
        InputError: it is that of several languages, or does not fit the head.
    """
    path = source.find("vocab.json")
    if path is None:
        return None
    if is_nested(read_json(path)):
        raise InputError(f"{source.name} has vocabularies of several languages: save it with one of them first")
    tokenizer = Wav2Vec2CTCTokenizer.from_source(source)
    vocabulary = {token: row for token, row in tokenizer.get_vocab().items() if row < rows}
    if len(set(vocabulary.values())) != rows:
        raise InputError(f"{source.name} has {len(vocabulary)} tokens for the {rows} rows of its head: mend vocab.json")
    if tokenizer.word_delimiter_token not in (None, "|"):
        vocabulary = {"|" if token == tokenizer.word_delimiter_token else token: r for token, r in vocabulary.items()}
    return FairseqVocabulary(*fairseq_rows(vocabulary, str(tokenizer.pad_token), tokenizer.unk_token))


def dictionary_beside(source: Path) -> Path | None:
    """fairseq's dictionary in the folder of a checkpoint."""
    path = source.parent / DICTIONARY
    return path if path.is_file() else None
