"""Labels of beam search and ``alphabet.json``."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2_core.decoding import Alphabet
from wav2vec2_core.errors import CheckpointError, InputError


@pytest.mark.parametrize(
    ("labels", "expected", "is_bpe"),
    [
        (["<pad>", "<s>", "</s>", "<unk>", "|", "A"], ["", "<s>", "</s>", "⁇", " ", "A"], False),
        (["[PAD]", "[UNK]", " ", "a", "|"], ["", "⁇", " ", "a", "|"], False),
        (["_", "a", "|"], ["", "a", " "], False),
        (["a", " "], ["a", " ", ""], False),  # the blank of other toolkits comes last and has no label
        (["<unk>", "▁a", "b", "▁", "<pad>"], ["▁⁇▁", "▁a", "b", "▁", ""], True),
        (["[PAD]", "[UNK]", "##a", "b", "<s>", "[CLS]"], ["", "▁⁇▁", "a", "▁b", "<s>", "[CLS]"], True),
        (["<unk>", "▁", "##a", "##b", "a", "b"], ["▁⁇▁", "▁", "a", "b", "▁a", "▁b", ""], True),
        (["##a", "▁b", "##"], ["a", "▁▁b", ""], True),
    ],
)
def test_labels_of_models(labels, expected, is_bpe):
    alphabet = Alphabet.build(labels)
    assert (list(alphabet.labels), alphabet.is_bpe) == (expected, is_bpe)


def test_files(tmp_path):
    alphabet = Alphabet(("", "▁ü", "é", "▁⁇▁"), True)
    alphabet.save(tmp_path)
    assert json.loads((tmp_path / "alphabet.json").read_text()) == {"labels": list(alphabet.labels), "is_bpe": True}
    assert Alphabet.load(tmp_path / "alphabet.json") == alphabet


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("abc", "labels is the string 'abc'"),
        ([], "must be a list of strings"),
        (["a", 3], "must be a list of strings"),
        (["<pad>", "a", "a"], "labels 1 and 2 of the alphabet are both 'a'"),
        (["<pad>", "a b", "▁a"], "label 'a b' has a space and others start with '▁'"),
        (["<pad>", "[PAD]", "a"], "labels 0 and 1 of the alphabet are both ''"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(InputError, match=message):
        Alphabet.build(labels)
    with pytest.raises(InputError, match="no blank"):
        Alphabet(("a", "b"))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["labels", "is_bpe", "x"]), inner, max_size=3)
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("alphabet") / "alphabet.json"
    path.write_bytes(content)
    try:
        alphabet = Alphabet.load(path)
    except CheckpointError as error:
        message = str(error)
    else:
        message = "alphabet.json"
        assert len(set(alphabet.labels)) == len(alphabet.labels)
        assert "" in alphabet.labels
    assert "alphabet.json" in message
    assert "\n" not in message


def test_absurd_labels(tmp_path):
    """A search has room for each character of the longest label, for every beam."""
    for labels, message in (
        (["", "a" * 70_000], "label 1 of the alphabet has 70000 characters, 200"),
        (["", ["b" * 999]], "label 1 of"),
    ):
        (tmp_path / "alphabet.json").write_text(json.dumps({"labels": labels, "is_bpe": False}))
        with pytest.raises(CheckpointError, match=message) as caught:
            Alphabet.load(tmp_path / "alphabet.json")
        assert len(str(caught.value)) < 400
    (tmp_path / "alphabet.json").write_text(json.dumps({"x\n" * 999: 1}))
    with pytest.raises(CheckpointError, match="needs a list 'labels'") as caught:
        Alphabet.load(tmp_path / "alphabet.json")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
