"""Models from one format into another, with a receipt of what happened to the numbers.

receipt = convert("checkpoint_best.pt", "my-model")                    # fairseq -> safetensors, config, vocabulary
receipt = convert("my-model", "for-tf", to="tf")
print(receipt.to_dict()["largest_difference"])
"""

from wav2vec2_core.conversion.converting import FORMATS, convert
from wav2vec2_core.conversion.receipt import Receipt

__all__ = ["FORMATS", "Receipt", "convert"]
