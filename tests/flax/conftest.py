"""JAX compiles for these tests as for those of conformance: quickly."""

from conformance.backends import prepare_for_tiny_models

prepare_for_tiny_models()
