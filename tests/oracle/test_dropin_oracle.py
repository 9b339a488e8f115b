"""Programs written for transformers 4.57.6 with our classes in the place of its own."""

import copy
import json

import numpy as np
import pytest
import torch
import transformers
from tokenizer_cases import Case, outcome, same_split_as_longest_match

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_core.audio import read_audio
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification, Wav2Vec2ForXVector

SAMPLES = {"three-one-four": "three one four", "two-seven-one-eight": "two seven one eight"}
SMALL = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7,
    "num_conv_pos_embedding_groups": 2, "vocab_size": 12, "classifier_proj_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def audio():
    return [read_audio(f"samples/{name}.flac") for name in SAMPLES]


# ---- configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 5},
        {"id2label": {0: "a", 1: "b", 2: "c"}},
        {"vocab_size": 40, "pad_token_id": 39},
        {"output_hidden_states": True, "layerdrop": 0.0, "mask_time_prob": 0.0},
        {"gradient_checkpointing": True, "anything": [1]},
    ],
)
def test_assignments(changes):
    ours, theirs = Wav2Vec2Config(), transformers.Wav2Vec2Config()
    ours.update(changes)
    for name, value in changes.items():
        setattr(theirs, name, value)
    for name in ("num_labels", "id2label", "vocab_size", "pad_token_id", "output_hidden_states", "layerdrop", *changes):
        assert getattr(ours, name) == getattr(theirs, name), name
    known = ours.to_dict()
    assert {
        name: value for name, value in theirs.to_dict().items() if name in known and name != "label2id"
    }.items() <= ({name: value for name, value in known.items() if name != "label2id"}.items()) or all(
        theirs.to_dict()[name] == value for name, value in known.items() if name in theirs.to_dict()
    )


def test_what_any_configuration_has():
    ours, theirs = Wav2Vec2Config(), transformers.Wav2Vec2Config()
    for name, value in vars(theirs).items():
        if hasattr(ours, name):
            found = getattr(ours, name)
            assert (list(found) if isinstance(found, tuple) else found) == value, name
    assert ours.to_dict()["id2label"] == theirs.to_dict()["id2label"]


@pytest.mark.parametrize("kind", [Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification, Wav2Vec2ForXVector])
def test_a_configuration_of_transformers_makes_the_same_model(kind, tmp_path):
    config = transformers.Wav2Vec2Config(**SMALL, num_labels=3, tdnn_dim=[8] * 5, xvector_output_dim=6)
    ours = kind(config).eval()
    assert ours.parameter_table() == parameter_table(config, ours.head)
    ours.save_pretrained(tmp_path)
    theirs = getattr(transformers, kind.__name__).from_pretrained(tmp_path).eval()
    assert ours.num_parameters() == theirs.num_parameters()
    ours.freeze_feature_encoder()
    theirs.freeze_feature_encoder()
    assert ours.num_parameters(only_trainable=True) == theirs.num_parameters(only_trainable=True)
    assert kind.from_pretrained(tmp_path, config=theirs.config).config.num_labels == 3
    lengths = torch.tensor([400, 16_000, 16_001])
    assert torch.equal(ours._get_feat_extract_output_lengths(lengths), theirs._get_feat_extract_output_lengths(lengths))
    for name in ("base_model_prefix", "main_input_name", "supports_gradient_checkpointing", "framework"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_loading_info(tmp_path):
    body = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL))
    body.save_pretrained(tmp_path)
    _, ours = Wav2Vec2ForCTC.from_pretrained(tmp_path, output_loading_info=True)
    _, theirs = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: set(keys) for name, keys in ours.items()} == {name: set(keys) for name, keys in theirs.items()}


# ---- tokenizer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_calls_of_a_tokenizer(seed, tmp_path):
    case = Case(seed, tmp_path)
    theirs, ours = case.make()
    texts = [text for text in (case.text() for _ in range(40)) if text and same_split_as_longest_match(theirs, text)]
    known = list(case.vocabulary.values())
    ids = [case.pick(known) for _ in range(5)]
    # With a token of BERT's, transformers counts types of tokens that it does not add.
    typed = {"return_token_type_ids": theirs.cls_token is None and theirs.sep_token is None}
    options = case.pick([{}, {"padding": True}, {"truncation": True, "max_length": 3}, typed])
    calls = [
        lambda t: dict(t.encode_plus(texts[0], **options)),
        lambda t: dict(t.encode_plus(texts[0], texts[1])),
        lambda t: dict(t.encode_plus(ids)),
        lambda t: dict(t.batch_encode_plus(texts[:4], **options)),
        lambda t: dict(t.batch_encode_plus([(texts[0], texts[1]), (texts[2], texts[3])])),
        lambda t: dict(t.prepare_for_model(ids, ids[:2], **typed)),
        lambda t: t.build_inputs_with_special_tokens(ids),
        lambda t: t.build_inputs_with_special_tokens(ids, ids[:2]),
        lambda t: typed["return_token_type_ids"] and t.create_token_type_ids_from_sequences(ids, ids[:2]),
        lambda t: (t.is_fast, t.num_special_tokens_to_add(), t.pad_token_type_id, t.max_len_single_sentence),
        lambda t: t.clean_up_tokenization("it 's . "),
    ]
    for number, call in enumerate(calls):
        expected, found = outcome(lambda call=call: call(theirs)), outcome(lambda call=call: call(ours))
        if isinstance(expected, Exception):
            assert isinstance(found, InputError), number
        else:
            assert found == expected, number


def test_setters_of_special_tokens():
    ours = Wav2Vec2CTCTokenizer.from_pretrained(EMBEDDED_MODEL)
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(EMBEDDED_MODEL)
    for name in ("pad_token", "bos_token", "eos_token", "unk_token", "cls_token", "word_delimiter_token"):
        for tokenizer in (ours, theirs):
            setattr(tokenizer, name, "e")
        assert getattr(ours, f"{name}_id") == getattr(theirs, f"{name}_id"), name
        if name == "word_delimiter_token":  # theirs cannot be set by its id
            continue
        for tokenizer in (ours, theirs):
            setattr(tokenizer, f"{name}_id", 3)
        assert getattr(ours, name) == getattr(theirs, name), name
    for tokenizer in (ours, theirs):
        tokenizer.additional_special_tokens = ["e", "o"]
    assert ours.additional_special_tokens_ids == theirs.additional_special_tokens_ids
    assert ours.all_special_tokens == theirs.all_special_tokens


@pytest.mark.parametrize("vocabulary", [{"a": 0, "b": 1}, {"a": 0, "|": 1, "<s>": 2, "</s>": 3, "<unk>": 4}])
def test_a_vocabulary_without_a_blank(vocabulary, tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocabulary))
    with pytest.warns(UserWarning, match="pad_token='<pad>', the CTC blank, is not in .* it is added at the end"):
        ours = Wav2Vec2CTCTokenizer(path)
    theirs = transformers.Wav2Vec2CTCTokenizer(path)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.pad_token_id == theirs.pad_token_id
    assert ours.decode([0, 0, 1, ours.pad_token_id, 1]) == theirs.decode([0, 0, 1, theirs.pad_token_id, 1])


def test_a_processor_as_target():
    processor = Wav2Vec2Processor.from_pretrained(EMBEDDED_MODEL)
    with processor.as_target_processor():
        labels = processor(["one", "three"], padding=True)
        padded = processor.pad([{"input_ids": [1]}, {"input_ids": [1, 2]}], padding=True)
    assert dict(labels) == dict(processor(text=["one", "three"], padding=True))
    assert padded["input_ids"] == [[1, processor.tokenizer.pad_token_id], [1, 2]]
    assert processor.current_processor is processor.feature_extractor
    heard = processor(raw_speech=np.ones(500, np.float32), sampling_rate=16_000)
    assert list(heard) == ["input_values", "attention_mask"]


def test_files_of_a_feature_extractor(tmp_path):
    ours = Wav2Vec2FeatureExtractor.from_pretrained(EMBEDDED_MODEL)
    ours.to_json_file(tmp_path / "extractor.json")
    theirs = transformers.Wav2Vec2FeatureExtractor.from_json_file(tmp_path / "extractor.json")
    assert Wav2Vec2FeatureExtractor.from_json_file(tmp_path / "extractor.json").to_dict() == ours.to_dict()
    assert {name: getattr(theirs, name) for name in ("sampling_rate", "do_normalize")} == {
        name: getattr(ours, name) for name in ("sampling_rate", "do_normalize")
    }
    found, unused = Wav2Vec2FeatureExtractor.from_pretrained(
        EMBEDDED_MODEL, do_normalize=False, mine=1, return_unused_kwargs=True
    )
    assert (found.do_normalize, unused) == (False, {"mine": 1})


# ---- programs ---------------------------------------------------------------------------------------------------


class Digits(torch.utils.data.Dataset):
    def __init__(self, processor, audio):
        self.rows = [
            {
                "input_values": processor(samples, sampling_rate=16_000).input_values[0],
                "labels": processor(text=text).input_ids,
            }
            for samples, text in zip(audio, SAMPLES.values(), strict=True)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


@pytest.fixture(scope="module")
def trained(audio, tmp_path_factory):
    """A folder in which ``Trainer`` has saved our model, and the model."""
    folder = tmp_path_factory.mktemp("trained")
    processor = Wav2Vec2Processor.from_pretrained(EMBEDDED_MODEL)
    model = Wav2Vec2ForCTC.from_pretrained(EMBEDDED_MODEL, attn_implementation="eager", low_cpu_mem_usage=True)
    model.freeze_feature_encoder()

    def collate(rows):
        features = [{"input_values": row["input_values"]} for row in rows]
        labels = [{"input_ids": row["labels"]} for row in rows]
        batch = processor.pad(input_features=features, labels=labels, padding=True, return_tensors="pt")
        batch["labels"] = batch["labels"].masked_fill(batch["labels"] == processor.tokenizer.pad_token_id, -100)
        return batch

    arguments = transformers.TrainingArguments(
        output_dir=folder, max_steps=2, save_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        gradient_checkpointing=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=Digits(processor, audio), data_collator=collate,
        processing_class=processor,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(folder / "final")
    return folder, model.eval()


@pytest.mark.parametrize("name", ["final", "checkpoint-2"])
def test_what_trainer_saves_loads(trained, name, audio):
    folder, model = trained
    processor = Wav2Vec2Processor.from_pretrained(folder / name)
    values = processor(audio[0], sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = model(values).logits
        assert torch.equal(Wav2Vec2ForCTC.from_pretrained(folder / name)(values).logits, expected)
        theirs = transformers.Wav2Vec2ForCTC.from_pretrained(folder / name).eval()(values).logits
    assert torch.allclose(theirs, expected, atol=1e-3)


def test_a_models_class_stays_its_own(trained):
    _, model = trained
    assert isinstance(model, transformers.PreTrainedModel)
    assert type(model) is type(copy.deepcopy(model)) is type(model.__class__(model.config)) is Wav2Vec2ForCTC


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_timestamps": "char"},
        {"return_timestamps": "word"},
        {"return_timestamps": "word", "chunk_length_s": 2, "stride_length_s": 0.5},
    ],
)
def test_speech_recognition_pipeline(options, audio):
    def heard(model, tokenizer, extractor):
        pipeline = transformers.pipeline(
            "automatic-speech-recognition", model=model, tokenizer=tokenizer, feature_extractor=extractor, device="cpu"
        )
        return pipeline(audio[0].copy(), **options)

    kinds = (Wav2Vec2ForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor)
    ours = [kind.from_pretrained(EMBEDDED_MODEL) for kind in kinds]
    theirs = [getattr(transformers, type(one).__name__).from_pretrained(EMBEDDED_MODEL) for one in ours]
    expected = heard(*theirs)
    assert expected["text"] == "three one four"
    assert heard(*ours) == expected
    assert heard(ours[0], *theirs[1:]) == expected
    assert heard(theirs[0], *ours[1:]) == expected


def test_audio_classification_pipeline(audio, tmp_path):
    config = transformers.Wav2Vec2Config(**SMALL, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    ours = Wav2Vec2ForSequenceClassification(config).eval()
    ours.save_pretrained(tmp_path)
    theirs = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(EMBEDDED_MODEL)
    found = [
        transformers.pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")(
            audio[0].copy(), top_k=3
        )
        for model in (ours, theirs)
    ]
    assert [one["label"] for one in found[0]] == [one["label"] for one in found[1]]
    assert [one["score"] for one in found[0]] == pytest.approx([one["score"] for one in found[1]], abs=1e-5)


def test_what_is_refused_is_refused_at_its_line():
    model = Wav2Vec2ForCTC.from_pretrained(EMBEDDED_MODEL)
    with pytest.raises(ConfigError, match="vocab_size=99 cannot be set"):
        model.config.vocab_size = 99
    model.config.ctc_zero_infinity = True  # as scripts do


def test_compilation_beside_transformers(audio):
    model = Wav2Vec2ForCTC.from_pretrained(EMBEDDED_MODEL)
    values = torch.from_numpy(audio[0])[None]
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)(values)
        assert isinstance(compiled, transformers.utils.ModelOutput)
        assert type(compiled) is type(model(values))
        assert torch.equal(compiled.logits, model(values).logits)
