"""Phones to text as transformers writes them."""

import json

import numpy as np
import pytest

from wav2vec2_core import Wav2Vec2PhonemeCTCTokenizer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle
PHONES = ["<pad>", "<s>", "</s>", "<unk>", "h", "ə", "l", "oʊ", "w", "ɜː", "d", "|"]


@pytest.mark.parametrize("delimiter", [None, "|"])
def test_decoding(tmp_path, delimiter):
    (tmp_path / "vocab.json").write_text(json.dumps({phone: row for row, phone in enumerate(PHONES)}))
    options = {"word_delimiter_token": delimiter, "do_phonemize": False}
    theirs = transformers.Wav2Vec2PhonemeCTCTokenizer(tmp_path / "vocab.json", **options)
    ours = Wav2Vec2PhonemeCTCTokenizer(tmp_path / "vocab.json", **options)
    rows = np.random.default_rng(0).choice([0, 0, *range(4, len(PHONES))], (20, 30))
    assert ours.batch_decode(rows) == theirs.batch_decode(rows)
    assert ours.batch_decode(rows, group_tokens=False) == theirs.batch_decode(rows, group_tokens=False)
    texts = [" ".join(PHONES[row] for row in line if row > 3) for line in rows]
    assert ours(texts).input_ids == theirs(texts).input_ids
    theirs.save_pretrained(tmp_path / "theirs")
    assert Wav2Vec2PhonemeCTCTokenizer.from_pretrained(tmp_path / "theirs").batch_decode(rows) == theirs.batch_decode(
        rows
    )
