"""Wav2Vec2ProcessorWithLM: outputs, threads and pools, files, and input that it refuses."""

import concurrent.futures
import json
import multiprocessing

import numpy as np
import pytest
from beam_cases import BeamCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_hub import local_hub, run_python

from wav2vec2_core import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    Wav2Vec2ProcessorWithLM,
)
from wav2vec2_core.decoding import Alphabet, BeamSearchDecoder, build_ctcdecoder
from wav2vec2_core.errors import CheckpointError, InputError, OutputError, Wav2Vec2Error

LABELS = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c", "d", "e", "é"]


class FixedCase(BeamCase):
    def _letters(self):
        return LABELS


@pytest.fixture
def case(tmp_path):
    return FixedCase(0, tmp_path)


@pytest.fixture
def processor(case, tmp_path):
    decoder = build_ctcdecoder(LABELS, case.arpa, case.words, alpha=0.6, beta=1.2, unk_score_offset=-8.0)
    return processor_of(decoder, tmp_path)


def processor_of(decoder, folder, labels=LABELS):
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(labels)}))
    return Wav2Vec2ProcessorWithLM(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(folder / "vocab.json"), decoder)


def test_one_reading_or_several(processor, case):
    logits = np.concatenate([case.logits() for _ in range(4)])
    one = processor.decode(logits)
    assert list(one) == ["text", "logit_score", "lm_score"]
    assert isinstance(one.text, str)
    assert isinstance(one.lm_score, float)
    assert one.word_offsets is None
    several = processor.decode(logits, n_best=3, output_word_offsets=True)
    assert several.text[0] == one.text
    assert len(several.text) == len(several.lm_score) == len(several.word_offsets) == 3
    for text, offsets in zip(several.text, several.word_offsets, strict=True):
        assert " ".join(offset["word"] for offset in offsets) == text
        assert all(offset["start_offset"] < offset["end_offset"] for offset in offsets)


def test_options_hold_for_one_call(processor, case):
    logits = np.concatenate([case.logits() for _ in range(4)])
    before = processor.decode(logits)
    other = processor.decode(logits, alpha=0.0, beta=0.0, unk_score_offset=0.0, beam_width=1000)
    assert other.lm_score == pytest.approx(other.logit_score)
    assert processor.decode(logits) == before
    processor.decoder.reset_params(alpha=0.0, beta=0.0, unk_score_offset=0.0)
    after = processor.decode(logits)
    assert after.lm_score == pytest.approx(after.logit_score)


def test_batches_in_threads_and_pools(processor, case):
    logits = [case.logits() for _ in range(7)]
    expected = [processor.decode(one, n_best=2, output_word_offsets=True, hotwords=case.words[:1]) for one in logits]
    options = {"n_best": 2, "output_word_offsets": True, "hotwords": case.words[:1]}
    padded = np.full((7, max(map(len, logits)), len(LABELS)), -100.0)
    for row, one in zip(padded, logits, strict=True):
        row[: len(one)] = one
    found = [
        processor.batch_decode(given, num_processes=n, **options) for given in (logits, padded) for n in (None, 1, 3)
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found.append(processor.batch_decode(logits, pool, **options))
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            found.append(processor.batch_decode(logits, pool, **options))
    for batch in found:
        for name in ("text", "logit_score", "lm_score", "word_offsets"):
            assert batch[name] == [one[name] for one in expected]
    assert dict(processor.batch_decode([])) == {"text": [], "logit_score": [], "lm_score": []}


def test_folders(processor, case, tmp_path):
    folder = tmp_path / "saved"
    processor.save_pretrained(folder)
    assert sorted(path.name for path in (folder / "language_model").iterdir()) == sorted(
        ["attrs.json", "unigrams.txt", case.arpa.name]
    )
    assert json.loads((folder / "preprocessor_config.json").read_text())["processor_class"] == "Wav2Vec2ProcessorWithLM"
    (folder / "language_model" / ".DS_Store").write_bytes(b"\0")
    read = Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    assert read.decoder.options == processor.decoder.options
    assert read.decoder.unigrams == case.words
    logits = case.logits()
    assert read.decode(logits) == processor.decode(logits)
    other = Wav2Vec2ProcessorWithLM.from_pretrained(folder, alpha=0.1, score_boundary=False, do_normalize=False)
    assert (other.decoder.options.alpha, other.decoder.options.lm_score_boundary) == (0.1, False)
    assert other.feature_extractor.do_normalize is False
    read.save_pretrained(folder)  # onto itself
    assert Wav2Vec2ProcessorWithLM.from_pretrained(folder).decode(logits) == processor.decode(logits)
    decoder = BeamSearchDecoder.load_from_dir(folder)
    decoder.save_to_dir(tmp_path / "decoder")
    assert decoder.decode_beams(logits)[0].text == processor.decode(logits).text


def test_no_unigrams(case, tmp_path):
    processor = processor_of(
        BeamSearchDecoder(Alphabet.build(LABELS), build_ctcdecoder(LABELS, case.arpa).model), tmp_path
    )
    processor.save_pretrained(tmp_path / "saved")
    read = Wav2Vec2ProcessorWithLM.from_pretrained(tmp_path / "saved")
    assert read.decoder.unigrams is None
    logits = case.logits()
    assert read.decode(logits) == processor.decode(logits)


def damaged(folder, change):
    change(folder)
    with pytest.raises((CheckpointError, InputError)) as error:
        Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def attributes(**changes):
    def change(folder):
        path = folder / "language_model" / "attrs.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return change


def labels(change_labels):
    def change(folder):
        path = folder / "alphabet.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "labels": change_labels(content["labels"])}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "alphabet.json").unlink(), "has no alphabet.json"),
        (lambda f: (f / "language_model" / "unigrams.txt").unlink(), "has no language_model/unigrams.txt"),
        (lambda f: (f / "language_model" / "attrs.json").unlink(), "has no language_model/attrs.json"),
        (lambda f: next((f / "language_model").glob("*.arpa")).unlink(), "has no language model"),
        (lambda f: (f / "language_model" / "other.bin").write_bytes(b"x"), "has several language models"),
        (lambda f: (f / "language_model" / "unigrams.txt").write_bytes(b"a\n\xff\n"), "unigrams.txt"),
        (attributes(alpha=None), "it needs"),
        (attributes(alhpa=1.0), "it needs"),
        (attributes(alpha="1"), "alpha='1'"),
        (attributes(score_boundary=1), "score_boundary=1"),
        (labels(lambda old: old[:-1]), r"lacks, as labels \['é'\]"),
        (
            labels(lambda old: [*old[:-2], old[-1], old[-2]]),
            "token 'e' has id 9 but in the decoder's alphabet label 9 is 'é'",
        ),
        (labels(lambda old: [*old, "e"]), "are both 'e'"),
        (labels(lambda old: old[1:]), "no blank"),
    ],
)
def test_damaged_folders(processor, tmp_path, change, message):
    import re

    processor.save_pretrained(tmp_path / "saved")
    assert re.search(message, damaged(tmp_path / "saved", change))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["alphabet.json", "language_model/attrs.json", "language_model/unigrams.txt"]),
    content=st.binary(max_size=80)
    | st.builds(
        lambda keys, value: json.dumps(dict.fromkeys(keys, value)).encode(),
        st.lists(
            st.sampled_from(["alpha", "beta", "unk_score_offset", "score_boundary", "labels", "is_bpe"]), max_size=5
        ),
        st.sampled_from([None, 1, 1e999, -1.5, True, "x", [], ["", "a"], {}]),
    ),
)
def test_any_folder_is_read_or_refused(processor, tmp_path, name, content):
    folder = tmp_path / "saved"
    processor.save_pretrained(folder)
    (folder / name).write_bytes(content)
    try:
        read = Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    except Wav2Vec2Error as error:
        message = str(error)
    else:
        message = ""
        assert isinstance(read.decode(np.zeros((3, len(LABELS)))).text, str)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.decode(np.zeros((3, 4))), "4 columns and the alphabet 11 labels"),
        (lambda p: p.decode(np.full((3, 11), np.nan)), "frame 0 are not finite"),
        (lambda p: p.decode(np.zeros((1, 3, 11))), r"shape \(1, 3, 11\)"),
        (lambda p: p.decode(np.zeros((3, 11)), n_best=0), "n_best=0 must be"),
        (lambda p: p.decode(np.zeros((3, 11)), beam_width=0), "beam_width=0 must be"),
        (lambda p: p.decode("text"), "real numbers"),
        (lambda p: p.batch_decode(np.zeros((3, 11))), r"shape \(11,\)"),
        (lambda p: p.batch_decode([np.zeros((3, 11))], num_processes=0), "num_processes=0"),
        (lambda p: p.batch_decode([np.zeros((3, 11))], pool=3), "pool is a int without map"),
        (lambda p: p.batch_decode(3), "logits are a int"),
    ],
)
def test_bad_calls(processor, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(processor)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit(processor, tmp_path):
    with pytest.raises(InputError, match="decoder is a str: make a BeamSearchDecoder"):
        Wav2Vec2ProcessorWithLM(processor.feature_extractor, processor.tokenizer, "decoder")
    without = processor_of(build_ctcdecoder(LABELS), tmp_path)
    assert isinstance(without.decode(np.zeros((2, 11))).text, str)
    without.save_pretrained(tmp_path / "without")
    assert sorted(path.name for path in (tmp_path / "without").iterdir() if path.is_dir()) == []
    with pytest.warns(UserWarning, match="has no folder language_model, its text is decoded without"):
        again = Wav2Vec2ProcessorWithLM.from_pretrained(tmp_path / "without", beta=1.0)
    assert (again.language_model, again.decoder.options.beta) == (None, 1.0)
    assert again.decoder.alphabet == without.decoder.alphabet
    processor.save_pretrained(tmp_path / "with")
    with pytest.raises(InputError, match="is the language model of another decoder and this one has none"):
        without.save_pretrained(tmp_path / "with")
    with pytest.raises(OutputError):
        processor.save_pretrained(tmp_path / "vocab.json" / "below")
    assert Wav2Vec2ProcessorWithLM.get_missing_alphabet_tokens(build_ctcdecoder(LABELS[:-1]), processor.tokenizer) == {
        "é"
    }


def test_a_plain_processor_reads_the_folder_too(processor, tmp_path):
    processor.save_pretrained(tmp_path / "saved")
    assert (
        Wav2Vec2Processor.from_pretrained(tmp_path / "saved").tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    )


# ---- the hub --------------------------------------------------------------------------------------------------------

DECODE = """
import json, sys
import numpy as np
from wav2vec2_core import Wav2Vec2ProcessorWithLM
from wav2vec2_core.errors import Wav2Vec2Error

try:
    processor = Wav2Vec2ProcessorWithLM.from_pretrained("org/name", cache_dir=sys.argv[1])
    found = processor.decode(np.load(sys.argv[2]))
    print(json.dumps([found.text, found.lm_score, processor.decoder.options.alpha]))
except Wav2Vec2Error as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def published(processor, tmp_path):
    """The files of a model on the hub, among them what nobody needs for decoding."""
    processor.save_pretrained(tmp_path / "saved")
    files = {
        path.relative_to(tmp_path / "saved").as_posix(): path.read_bytes()
        for path in (tmp_path / "saved").rglob("*")
        if path.is_file()
    }
    others = [
        "config.json", "model.safetensors", "README.md", ".gitattributes", "language_model/.gitattributes",
        "language_model/notes.txt", "language_model/old/4gram.arpa", "eval/language_model/attrs.json",
    ]  # fmt: skip
    return {**files, **dict.fromkeys(others, b"{}")}


def test_a_model_on_the_hub(processor, case, published, tmp_path):
    logits = np.concatenate([case.logits() for _ in range(4)])
    np.save(tmp_path / "logits.npy", logits)
    expected = processor.decode(logits)
    with local_hub(published) as (endpoint, asked):
        found = run_python(DECODE, tmp_path / "hub", tmp_path / "logits.npy", HF_ENDPOINT=endpoint)
    assert found == [expected.text, expected.lm_score, 0.6]
    assert {name for name in asked if name.startswith("language_model/")} == {
        "language_model/attrs.json", "language_model/unigrams.txt", "language_model/0.arpa",
    }  # fmt: skip
    assert "alphabet.json" in asked
    assert not {"config.json", "model.safetensors", "README.md", "eval/language_model/attrs.json"} & {*asked}
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": endpoint}):  # and a hub that is gone
        assert run_python(DECODE, tmp_path / "hub", tmp_path / "logits.npy", **environment) == found


def test_models_on_the_hub_that_lack_something(case, published, tmp_path):
    np.save(tmp_path / "logits.npy", case.logits())
    for number, (lacking, message) in enumerate(
        [
            ("alphabet.json", "model 'org/name' has no alphabet.json"),
            ("language_model/attrs.json", "model 'org/name' has no language_model/attrs.json"),
        ]
    ):
        files = {name: content for name, content in published.items() if not name.startswith(lacking)}
        with local_hub(files) as (endpoint, _):
            found = run_python(DECODE, tmp_path / str(number), tmp_path / "logits.npy", HF_ENDPOINT=endpoint)
        assert found.startswith(message)
