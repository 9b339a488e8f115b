"""Weight files as named numpy arrays: safetensors and the formats of PyTorch, TensorFlow, Flax and other programs."""
