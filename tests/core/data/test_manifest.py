"""Manifests: each kind as its owners write it, round trips, and lines that are wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wav2vec2_core.audio import read_audio
from wav2vec2_core.data.manifest import Utterance, read_manifest, write_manifest
from wav2vec2_core.errors import AudioError, InputError


@pytest.fixture
def read(tmp_path):
    """Write a manifest and read it; paths come back relative to its folder."""

    def run(name, content):
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        utterances = list(read_manifest(tmp_path / name))
        return [(u.path.relative_to(tmp_path).as_posix(), u.text, u.offset, u.duration) for u in utterances]

    return run


def test_nemo(read):
    content = (
        '{"audio_filepath": "a/1.wav", "duration": 2.5, "text": "eins zwei"}\n\n'
        '{"audio_filepath": "a/2.wav", "duration": 1, "text": "", "offset": 0.5, "speaker": 7}\r\n'
        '{"audio_filepath": "a/3.wav"}'
    )
    wanted = [("a/1.wav", "eins zwei", 0.0, 2.5), ("a/2.wav", "", 0.5, 1.0), ("a/3.wav", None, 0.0, None)]
    assert read("m.jsonl", content) == wanted
    assert read("m.json", "\ufeff" + content) == wanted


def test_absolute_paths_stay(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "/data/1.wav"}')
    assert [u.path for u in read_manifest(tmp_path / "m.jsonl")] == [Path("/data/1.wav")]


def test_hugging_face(read):
    content = 'file_name,transcription\r\nclips/1.wav,"one, ""two""\nthree"\r\n2.wav,\r\n'
    assert read("metadata.csv", content) == [
        ("clips/1.wav", 'one, "two"\nthree', 0.0, None),
        ("2.wav", "", 0.0, None),
    ]
    assert read("metadata.jsonl", '{"file_name": "1.wav", "transcription": "é"}\n') == [("1.wav", "é", 0.0, None)]


def test_common_voice(read, tmp_path):
    content = 'client_id\tpath\tsentence\tup_votes\nxyz\tc_1.mp3\t"Ja", sagte er.\t2\n'
    assert read("test.tsv", content) == [("c_1.mp3", '"Ja", sagte er.', 0.0, None)]
    (tmp_path / "clips").mkdir()
    assert read("test.tsv", content) == [("clips/c_1.mp3", '"Ja", sagte er.', 0.0, None)]


def test_columns_by_any_name_in_any_order(read):
    assert read("m.csv", "Duration,Text,Path,offset\n3,a b,x.wav,\n") == [("x.wav", "a b", 0.0, None)]
    assert read("m.csv", "duration,transcript,file,offset\n3,a b,x.wav,1e-1\n") == [("x.wav", "a b", 0.1, 3.0)]
    assert read("m.tsv", "path\nx.wav\n") == [("x.wav", None, 0.0, None)]


def test_fairseq(tmp_path):
    (tmp_path / "train.tsv").write_text("/data/set\n1/a.flac\t16000\n1/b c.flac\t320\n")
    assert list(read_manifest(tmp_path / "train.tsv")) == [
        Utterance(Path("/data/set/1/a.flac"), samples=16000),
        Utterance(Path("/data/set/1/b c.flac"), samples=320),
    ]
    (tmp_path / "train.ltr").write_text("O N E | T W O |\n\n")
    assert [u.text for u in read_manifest(tmp_path / "train.tsv")] == ["ONE TWO", ""]
    (tmp_path / "train.wrd").write_text("ONE TWO\nTHREE\n")
    assert [u.text for u in read_manifest(tmp_path / "train.tsv")] == ["ONE TWO", "THREE"]
    (tmp_path / "train.tsv").write_text("sub/set\na.flac\t1\nb.flac\t2\n")
    assert next(read_manifest(tmp_path / "train.tsv")).path == tmp_path / "sub" / "set" / "a.flac"


def test_it_is_read_as_it_is_used(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "1.wav"}\nnonsense\n')
    utterances = read_manifest(tmp_path / "m.jsonl")
    assert next(utterances).path.name == "1.wav"
    with pytest.raises(InputError, match=r"m\.jsonl, line 2 is not JSON"):
        next(utterances)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"path": "a"}\n{"path": \n', r"m\.jsonl, line 2 is not JSON \(Expecting value"),
        ("m.jsonl", "[1]\n", r"line 1 is a JSON list: a manifest has one JSON object a line"),
        (
            "m.jsonl",
            '{"speaker": "a", "text": "b"}\n',
            r"line 1 names no recording: it has .*, needed is one of audio_fi",
        ),
        ("m.jsonl", '{"path": 7}\n', r"line 1 has path=7: it must be the path"),
        ("m.jsonl", '{"path": "a", "text": ["b"]}\n', r"line 1 has text=\['b'\]: it must be text"),
        ("m.jsonl", '\n{"path": "a", "duration": 0}\n', r"line 2 has duration=0: it must be a positive number"),
        ("m.jsonl", '{"path": "a", "offset": -1}\n', r"line 1 has offset=-1: it must be 0 or a positive number"),
        ("m.jsonl", '{"path": "a", "offset": NaN}\n', r"line 1 has offset=nan"),
        ("m.jsonl", '{"path": "a", "duration": true}\n', r"line 1 has duration=True"),
        ("m.jsonl", "", r"m\.jsonl names no recordings: add some"),
        ("m.csv", "path,text\n", r"m\.csv names no recordings"),
        ("m.csv", "a,b\n1,2\n", r"m\.csv, line 1 names no recording: it has b, a, needed is one of"),
        ("m.csv", 'path,text\n"a\n",x\nb\n', r"m\.csv, line 4 has 1 columns, the first line names 2"),
        ("m.csv", 'path,text\na,b\n"c"d,e\n', r"m\.csv, line 3 is not CSV"),
        ("m.csv", 'path,text\na,b\n"c,e\n', r"m\.csv, line 3 is not CSV"),
        ("m.csv", "path,text\n ,b\n", r"m\.csv, line 2 has path=' '"),
        ("m.csv", "path,duration\na,long\n", r"m\.csv, line 2 has duration='long'"),
        ("m.tsv", "path\ttext\na\tb\tc\n", r"m\.tsv, line 2 has 3 columns, the first line names 2"),
        ("m.tsv", "/data\na.wav\n", r"m\.tsv, line 2 is not a path, a tab and a number of samples: 'a\.wav'"),
        ("m.tsv", "/data\na.wav\t-3\n", r"m\.tsv, line 2 is not"),
        ("m.tsv", "/data\n", r"m\.tsv names no recordings"),
        ("m.txt", "a\n", r"m\.txt has no suffix of a manifest: name it \.jsonl, \.json"),
    ],
)
def test_lines_that_are_wrong(read, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(name, content)
    assert "\n" not in str(caught.value)


def test_files_that_are_wrong(read, tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv cannot be read \(No such file"):
        list(read_manifest(tmp_path / "gone.csv"))
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(InputError, match=r"folder\.tsv cannot be read \(Is a directory"):
        list(read_manifest(tmp_path / "folder.tsv"))
    (tmp_path / "m.csv").write_bytes(b"path,text\na,b\nc,\xe9\n")
    with pytest.raises(InputError, match=r"m\.csv, line 3 is not UTF-8"):
        list(read_manifest(tmp_path / "m.csv"))
    (tmp_path / "m.wrd").write_text("one\n")
    with pytest.raises(InputError, match=r"m\.wrd has no line for line 3 of .*m\.tsv"):
        read("m.tsv", "/data\na\t1\nb\t2\n")
    (tmp_path / "m.wrd").write_text("one\ntwo\nthree\n")
    with pytest.raises(InputError, match=r"m\.wrd has more lines than .*m\.tsv names recordings"):
        read("m.tsv", "/data\na\t1\nb\t2\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.tsv", "/tmp\na.wav\t" + "1" * 5000 + "\n", "line 2 is not a path, a tab and a number of samples"),
        ("m.csv", '"' + "x\n" * 999 + '",text\na.wav,one\n', "line 1 names no recording"),
        ("m.csv", ",".join(f"c{i}" for i in range(999)), "line 1 names no recording"),
        ("m.jsonl", json.dumps({"path": ["x" * 999] * 999}), "it must be the path of a recording"),
        ("m.jsonl", json.dumps({"path": "a", "duration": "1" * 9999}), "a positive number of seconds"),
    ],
)
def test_absurd_entries(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_manifest(tmp_path / name))
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)


# ---- writing --------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=9)
SECONDS = st.floats(0.001, 1e6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["m.jsonl", "m.csv", "m.tsv", "metadata.csv", "metadata.jsonl"]),
    st.lists(
        st.tuples(
            NAMES, st.text(st.characters(exclude_categories=["Cs"])), st.none() | SECONDS, st.just(0.0) | SECONDS
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_what_is_written_reads_back(tmp_path, name, rows):
    if name == "m.tsv":
        rows = [(file, "".join(text.replace("\t", " ").splitlines()), *rest) for file, text, *rest in rows]
    utterances = [Utterance(tmp_path / "a" / f"{file}.wav", text, offset, d) for file, text, d, offset in rows]
    write_manifest(tmp_path / name, utterances)
    assert list(read_manifest(tmp_path / name)) == utterances


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.tsv"])
def test_columns_are_written_too(tmp_path, name):
    columns = {"label": "dog", "age": 3, "parts": [[0, 0.5, "a b"]], "vector": np.arange(2), "none": None}
    others = {"sentence": "another text", "WAV": "another path", "offset": "far"}
    rows = [Utterance(tmp_path / "1.wav", columns=columns | others), Utterance(tmp_path / "2.wav", "two")]
    write_manifest(tmp_path / name, rows)
    first, second = read_manifest(tmp_path / name)
    assert (first.text or None, first.offset, first.path) == (None, 0.0, tmp_path / "1.wav")
    if name == "m.jsonl":
        assert first.columns == columns | {"vector": [0, 1]}
        assert second.columns == {}
    else:
        texts = {"label": "dog", "age": "3", "parts": '[[0, 0.5, "a b"]]', "vector": "[0, 1]", "none": ""}
        assert first.columns == texts
        assert second.columns == dict.fromkeys(texts, "")


def test_paths_below_the_manifest_are_relative(tmp_path):
    utterances = [Utterance(tmp_path / "a" / "1.wav"), Utterance(Path("/elsewhere/2.wav"))]
    write_manifest(tmp_path / "m.jsonl", utterances)
    paths = [json.loads(line)["audio_filepath"] for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert paths == ["a/1.wav", "/elsewhere/2.wav"]


def test_fairseq_written(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    soundfile.write(tmp_path / "a" / "b" / "1.wav", np.zeros(8_000), 8_000)
    utterances = [
        Utterance(tmp_path / "a" / "b" / "1.wav", "ONE  TWO"),
        Utterance(tmp_path / "a" / "2.wav", "Ü", samples=99),
    ]
    write_manifest(tmp_path / "t.tsv", utterances, kind="fairseq")
    assert (tmp_path / "t.tsv").read_text() == f"{tmp_path / 'a'}\nb/1.wav\t16000\n2.wav\t99\n"
    assert (tmp_path / "t.ltr").read_text(encoding="utf-8") == "O N E | T W O |\nÜ |\n"
    assert (tmp_path / "t.wrd").read_text(encoding="utf-8") == "ONE TWO\nÜ\n"
    assert [(u.path, u.text) for u in read_manifest(tmp_path / "t.tsv")] == [
        (utterances[0].path, "ONE TWO"),
        (utterances[1].path, "Ü"),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "utterance", "message"),
    [
        ("m.tsv", None, Utterance(Path("a"), "b\tc"), r"'b\\tc' holds a tab or a line break"),
        ("m.doc", None, Utterance(Path("a")), r"of kind None is unknown: use one of nemo"),
        ("m.csv", "xml", Utterance(Path("a")), r"of kind 'xml' is unknown"),
        ("m.tsv", "fairseq", Utterance(Path("a"), offset=1.0), r"a is used in part"),
        ("m.tsv", "fairseq", Utterance(Path("a"), samples=3), r"1 of 2 utterances have no text"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, kind, utterance, message):
    with pytest.raises(InputError, match=message):
        write_manifest(tmp_path / name, [Utterance(Path("b"), "x", samples=1), utterance], kind)
    assert not list(tmp_path.iterdir())


def test_the_recording_of_an_utterance_is_its_stretch(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 24_000), 8_000)
    whole = read_audio(path)
    for offset, duration, start, end in [
        (0.0, None, 0, None), (0.0, 3.0, 0, None), (0.0, 9.9, 0, None), (0.5, 1.25, 8_000, 28_000),
        (1.0, None, 16_000, 48_000), (0.0, 0.5, 0, 8_000), (2.5, 7.0, 40_000, 48_000),
    ]:  # fmt: skip
        recording = Utterance(path, offset=offset, duration=duration).recording()
        assert np.array_equal(recording.read(), whole[start:end])
        assert (recording.path, recording.start) == (path, offset)
    with pytest.raises(AudioError, match=r"a\.flac lasts 3\.00 s, its stretch begins at 3 s"):
        Utterance(path, offset=3.0).recording().read()
    with pytest.raises(AudioError, match="does not exist"):
        Utterance(tmp_path / "none.wav").recording()
    assert Utterance(path).recording(channel="left").channel == "left"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"audio_filepath": "a.wav", "duration": 1' + "0" * 400 + "}", "duration="),
        ('{"audio_filepath": "a.wav", "duration": 1' + "0" * 5000 + "}", "line 1"),
        ('{"audio_filepath": "\\ud800.wav"}', "half of a character"),
        ('{"audio_filepath": "a.wav", "text": "a\\udfffb"}', "half of a character"),
        ('{"audio_filepath": "a.wav", "offset": "' + "9" * 999 + '"}', "offset="),
    ],
)
def test_values_at_the_edges_of_python(read, line, says):
    with pytest.raises(InputError, match=says) as caught:
        read("m.jsonl", line)
    assert len(str(caught.value)) < 400
