"""Files of weights as named numpy arrays: safetensors, PyTorch's, TensorFlow's, Flax's and other programs'."""
