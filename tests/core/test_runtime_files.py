"""Vocabularies as other runtimes read them."""

import json

import pytest

from wav2vec2_core.runtime_files import write_runtime_files
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

UPPER = {"<pad>": 0, "|": 1, "A": 2, "B": 3}


def test_symbols_and_tokenizer_decode_as_ours(tmp_path):
    """The blank and the space by their names there; letters in the case that is decoded; ids as they are."""
    tokenizer = Wav2Vec2CTCTokenizer(UPPER, bos_token=None, eos_token=None, unk_token="<pad>", do_lower_case=True)
    write_runtime_files(tmp_path, tokenizer)
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8") == "<blk> 0\n\u2581 1\na 2\nb 3\n"
    told = json.loads((tmp_path / "tokenizer.json").read_text())
    assert told["model"]["vocab"] == {"<pad>": 0, "|": 1, "a": 2, "b": 3}
    first, second = told["decoder"]["decoders"]
    assert (first["pad_token"], first["word_delimiter_token"]) == ("<pad>", "|")
    assert (second["pattern"], second["content"]) == ({"String": "|"}, " ")
    assert not told["added_tokens"], "a special blank would be dropped before letters are merged"


@pytest.mark.parametrize(
    "tokenizer",
    [Wav2Vec2PhonemeCTCTokenizer({"<pad>": 0, "a": 1}), Wav2Vec2CTCTokenizer(UPPER, pad_token=None)],
    ids=["phones", "no blank"],
)
def test_nothing_is_written_of_what_the_files_cannot_say(tmp_path, tokenizer):
    write_runtime_files(tmp_path, tokenizer)
    assert not list(tmp_path.iterdir())
