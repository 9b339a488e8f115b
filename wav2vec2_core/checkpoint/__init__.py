"""Model folders, hub models and the weight files in them, as named numpy arrays.

source = open_model("facebook/wav2vec2-base-960h")   # or a folder
checkpoint = open_checkpoint(source)                 # names, shapes and types; no values yet
plan = plan_loading(parameter_table(config, "ForCTC"), checkpoint)
for ours, theirs in plan.sources.items():
    array = checkpoint.read(theirs)                  # straight from the file
"""

from wav2vec2_core.checkpoint.adapters import adapter_table, plan_adapter, read_adapter, write_adapter
from wav2vec2_core.checkpoint.emotion_heads import with_head_of
from wav2vec2_core.checkpoint.head_resizing import HEAD, ResizedHead, resize_head, shared_rows
from wav2vec2_core.checkpoint.matching import LoadPlan, plan_loading
from wav2vec2_core.checkpoint.opening import has_weights, open_checkpoint
from wav2vec2_core.checkpoint.writing import write_checkpoint, write_flax_checkpoint, write_tf_checkpoint
from wav2vec2_core.source import ModelSource, open_model
from wav2vec2_core.weight_files.checkpoint import Checkpoint

__all__ = [
    "HEAD",
    "Checkpoint",
    "LoadPlan",
    "ModelSource",
    "ResizedHead",
    "adapter_table",
    "has_weights",
    "open_checkpoint",
    "open_model",
    "plan_adapter",
    "plan_loading",
    "read_adapter",
    "resize_head",
    "shared_rows",
    "with_head_of",
    "write_adapter",
    "write_checkpoint",
    "write_flax_checkpoint",
    "write_tf_checkpoint",
]
