"""Shared by all tests: no network, one thread per test process."""

import os

# Before any framework is imported: tests run in parallel processes, and never ask the hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
