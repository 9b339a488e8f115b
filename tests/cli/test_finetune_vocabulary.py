"""`wav2vec2 finetune ctc` with other vocabularies, and with adapters of languages, with PyTorch on tones."""

import json
import shutil

import numpy as np
import pytest
from mms_folder import write_mms
from tone_speech import WORDS, write_tones

from wav2vec2_core import Wav2Vec2Processor
from wav2vec2_core.checkpoint import adapter_table, open_checkpoint, open_model
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC

LETTERS = sorted({*"".join(WORDS)})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


@pytest.fixture
def run(command, manifest, tmp_path):
    """Run the command for a few updates; code, stdout, stderr and the folder of the result."""

    def run(model, *more, train=manifest):
        code, out, err = command(
            "finetune", "ctc", "--model", model, "--train", train, "--eval", train, "--preset", "10min", "--output",
            tmp_path / "run", "--steps", 2, "--batch-seconds", 6, "--learning-rate", "1e-3", *more,
        )  # fmt: skip
        return code, out, err, tmp_path / "run" / "model"

    return run


def vocabulary_of(folder):
    return json.loads((folder / "vocab.json").read_text(encoding="utf-8"))


def in_order(vocabulary):
    return sorted(vocabulary, key=vocabulary.__getitem__)


def arrays_of(folder):
    checkpoint = open_checkpoint(open_model(folder))
    return {name: checkpoint.read(name) for name in checkpoint.shapes}


def test_letters_of_the_texts_in_another_case(command, run, manifest):
    code, out, err, folder = run(EMBEDDED_MODEL, "--vocabulary", "text", "--case", "upper")
    assert code == 0, err
    letters = [letter.upper() for letter in LETTERS]
    assert in_order(vocabulary_of(folder)) == ["<pad>", "<s>", "</s>", "<unk>", "|", *letters]
    assert f"vocabulary: {len(LETTERS)} letters in 12 texts" in err
    assert "lm_head: 17 of 20 tokens keep their rows" in err  # the embedded model has no <s>, </s> and <unk>
    assert "unknown letters" not in err
    evaluate = next(line for line in out.splitlines() if "evaluate" in line).split()[1:]
    assert "--lower-case" in evaluate
    code, found, _ = command(*evaluate)
    assert code == 0
    assert out.partition(" on ")[0].split(",")[0] in found  # in upper case here and in lower case there


def test_a_body_without_a_vocabulary_learns_the_letters_of_the_texts(run, tmp_path):
    shutil.copytree(EMBEDDED_MODEL, tmp_path / "body")
    for name in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (tmp_path / "body" / name).unlink(missing_ok=True)
    code, _, err, folder = run(tmp_path / "body")
    assert code == 0, err
    assert "lm_head: new" in err
    assert vocabulary_of(folder) == {
        token: row for row, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])
    }
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    assert (model.config.vocab_size, model.config.pad_token_id) == (5 + len(LETTERS), 0)


def test_a_vocabulary_file_and_its_content_belong_to_the_run(run, tmp_path):
    path = tmp_path / "letters.json"
    path.write_text(json.dumps({token: row for row, token in enumerate(["[PAD]", "|", *LETTERS])}))
    code, _, err, folder = run(EMBEDDED_MODEL, "--vocabulary", path)
    assert code == 0, err
    assert in_order(vocabulary_of(folder)) == ["[PAD]", "|", *LETTERS]
    assert Wav2Vec2Processor.from_pretrained(folder).tokenizer.pad_token == "[PAD]"
    path.write_text(path.read_text().replace('"z"', '"Z"'))
    code, _, err, _ = run(EMBEDDED_MODEL, "--vocabulary", path, "--resume")
    assert code == 1
    assert "task.vocabulary_sha256 was " in err


def test_the_adapter_of_a_new_language(command, run, manifest, tmp_path):
    (tmp_path / "mms").mkdir()
    mms = write_mms(tmp_path / "mms")
    before = arrays_of(mms)
    code, out, err, folder = run(mms, "--adapter", "xyz")
    assert code == 0, err
    assert "adapter xyz: new" in err
    assert "the first 0 of the head alone" in err
    assert list(vocabulary_of(folder)) == ["eng", "fra", "xyz"]
    assert in_order(vocabulary_of(folder)["xyz"]) == ["<pad>", "|", *LETTERS]

    model = Wav2Vec2ForCTC.from_pretrained(folder)
    trained = set(adapter_table(model.config, "ForCTC"))
    after = model.arrays()
    for name, array in before.items():
        assert name in trained or np.array_equal(after[name], array), name
    adapters = [name for name in trained if "adapter_layer" in name]
    assert adapters
    assert not any(np.array_equal(after[name], before[name]) for name in adapters)

    said = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="xyz").arrays()
    assert all(np.array_equal(said[name], array) for name, array in after.items())
    recording = manifest.parent / "0.wav"
    code, text, err = command("transcribe", recording, "--model", folder, "--language", "xyz")
    assert code == 0, err
    assert command("transcribe", recording, "--model", folder)[1] == text  # the result speaks this language
    assert f"--model {folder} --language xyz" in out

    # The file and the vocabulary are all that the original folder needs.
    shutil.copy(folder / "adapter.xyz.safetensors", mms)
    shutil.copy(folder / "vocab.json", mms)
    there = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="xyz").arrays()
    assert all(np.array_equal(after[name], array) for name, array in there.items())


def test_the_adapter_of_a_language_that_is_there_goes_on(run, tmp_path):
    (tmp_path / "mms").mkdir()
    mms = write_mms(tmp_path / "mms")
    code, _, err, folder = run(mms, "--adapter", "fra", "--vocabulary", "text", "--learning-rate", "1e-30")
    assert code == 0, err
    assert f"adapter fra: {mms / 'adapter.fra.safetensors'}" in err
    assert f"lm_head: 2 of {2 + len(LETTERS)} tokens keep their rows" in err
    french = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="fra").arrays()
    after = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra").arrays()
    for name, array in french.items():
        kept = slice(2) if name.startswith("lm_head") else slice(None)
        np.testing.assert_allclose(after[name][kept], array[kept], rtol=0, atol=1e-20, err_msg=name)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--adapter", "xyz"], "--adapter trains attention adapters and model "),
        (["--adapter", "../xyz"], "must be letters, digits, '_' and '-'"),
        (["--case", "title"], "case='title' is unknown: use one of keep, lower, upper"),
        (["--vocabulary", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_trained_is_one_line(run, more, message):
    code, out, err, folder = run(EMBEDDED_MODEL, *more)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not folder.parent.exists()


def test_an_adapter_leaves_the_convolutions_as_they_are(run, tmp_path):
    (tmp_path / "mms").mkdir()
    mms = write_mms(tmp_path / "mms")
    code, out, err, folder = run(mms, "--adapter", "xyz", "--set", "schedule.train_feature_encoder=true")
    assert (code, out) == (1, "")
    assert "leave out --adapter, or --set schedule.train_feature_encoder=false" in err
    assert not folder.parent.exists()


def test_texts_that_the_model_has_no_letters_for(run, manifest, tmp_path):
    shutil.copytree(manifest.parent, tmp_path / "data")
    own = tmp_path / "data" / "train.jsonl"
    own.write_text(
        own.read_text()
        .upper()
        .replace("AUDIO_FILEPATH", "audio_filepath")
        .replace(".WAV", ".wav")
        .replace("TEXT", "text")
    )
    code, _, err, _ = run(EMBEDDED_MODEL, train=own)
    assert code == 1
    assert "unknown letters (12" in err
    assert "learn the letters of the texts by --vocabulary text" in err
    assert run(EMBEDDED_MODEL, "--case", "lower", train=own)[0] == 0
