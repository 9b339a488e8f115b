"""What pretraining starts from: first values of a seed, or a model that was pretrained before."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec2_core.checkpoint import Checkpoint, has_weights, open_checkpoint, plan_loading
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import initial_values, parameter_table
from wav2vec2_core.source import ModelSource
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

HEAD = "ForPreTraining"
#: Fields of a configuration that say which parameters there are and what is computed from them.
_BODY = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "do_stable_layer_norm", "conv_dim", "conv_stride", "conv_kernel", "conv_bias", "feat_extract_norm",
    "feat_extract_activation", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "add_adapter",
    "adapter_attn_dim",
)  # fmt: skip
_QUANTIZER = ("num_codevectors_per_group", "num_codevector_groups", "codevector_dim", "proj_codevector_dim")
_SHOWN = 4


@dataclass(frozen=True)
class Start:
    """A model before the first update. checkpoint: its weights, the others get first values; notes: for the user."""

    config: Wav2Vec2Config
    checkpoint: Checkpoint
    feature_extractor: Wav2Vec2FeatureExtractor
    notes: tuple[str, ...] = ()


def fresh_start(recipe: PretrainingRecipe) -> Start:
    """A fresh model, of the recipe's seed the same in every back end. Raises ``ConfigError``."""
    config, normalize = recipe.config(), recipe.architecture.normalize
    values = dict(initial_values(parameter_table(config, HEAD), recipe.seed))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=normalize)
    return Start(config, Checkpoint.of(values), extractor)


def start_from(source: ModelSource, recipe: PretrainingRecipe) -> Start:
    """A model to go on from: its configuration and the way it takes waveforms stay, masks and losses are the recipe's.

    A model without a quantizer, such as one for speech recognition, gets that of the recipe.

    Raises:
        CheckpointError: it has no weights, or they do not fit its configuration.
        ConfigError: its configuration is none.
        InputError: its architecture is not the recipe's.
    """
    if not has_weights(source):
        raise CheckpointError(
            f"model {source.name!r:.100} has no weights to go on from: name a pretrained model, or leave out --model "
            "for a fresh one"
        )
    there, wanted, checkpoint = Wav2Vec2Config.from_source(source), recipe.config(), open_checkpoint(source)
    has_quantizer = any(name.startswith("quantizer.") for name in checkpoint.shapes)
    _check_same(source.name, there, wanted, (*_BODY, *(_QUANTIZER if has_quantizer else ())))
    quantizer = {} if has_quantizer else {name: getattr(wanted, name) for name in _QUANTIZER}
    config = there.replace(**recipe.training_fields(), **quantizer)
    new = plan_loading(parameter_table(config, HEAD), checkpoint).new
    extractor = Wav2Vec2FeatureExtractor.from_source(source)
    return Start(config, checkpoint, extractor, _notes(source.name, new, recipe.seed))


def _check_same(name: str, there: Wav2Vec2Config, wanted: Wav2Vec2Config, fields: tuple[str, ...]) -> None:
    """Check that two configurations are of one architecture. Raises ``InputError``."""
    differing = [field for field in fields if getattr(there, field) != getattr(wanted, field)]
    if differing:
        shown = "; ".join(f"{one} is {getattr(there, one)} and {getattr(wanted, one)}" for one in differing[:_SHOWN])
        rest = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise InputError(
            f"model {name!r:.100} has another architecture than the preset: {shown}{rest}; use the preset of the "
            "model's own architecture, or leave out --model for a fresh one"
        )


def _notes(name: str, new: tuple[str, ...], seed: int) -> tuple[str, ...]:
    if not new:
        return ()
    parts = sorted({parameter.removeprefix("wav2vec2.").split(".", 1)[0] for parameter in new})
    return (f"warning: model {name!r:.100} has no {', '.join(parts)}: these start anew from seed {seed}",)
