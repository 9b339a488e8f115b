"""All checks: `nox` runs what CI runs, `nox -s NAME` one part, `nox -l` lists them. Each installs what it needs.

Those that are not marked with a star in the list take long and are run before a release.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"

PYTEST = ("pytest", "-q", "-n", "auto")
CONSTRAINTS = ("-c", "constraints.txt")
#: Tests that run for whichever back end is installed.
EVERY_BACKEND = (
    "tests/test_imports.py",
    "tests/test_public_names.py",
    "tests/test_bad_input.py",
    "tests/docs/test_migrating.py",
)
#: Tests of the core that also read tf_model.h5 where h5py is.
H5 = ("tests/core/conversion", "tests/core/weight_files/test_damaged_files.py")
#: Tests that need no framework.
FRAMEWORK_FREE = ("tests/core", "tests/conformance", "tests/cli/test_lm_without_framework.py")
#: Its data sets are read as they are.
DATASETS = "datasets>=4"
#: What the server is asked by.
CLIENTS = ("openai[realtime]>=2", "schemathesis>=4")
#: What runs exported programs as they are.
SHERPA = "sherpa-onnx>=2.0.1"
OF_NODE = ("@huggingface/transformers@4.3.2", "sherpa-onnx@1.13.8", "sherpa-onnx-node@1.13.8")
#: Scripts of packages fetch libraries for GPUs from elsewhere.
NPM_INSTALL = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
#: The release whose behaviour is matched, and the newest one, which reads our files.
TRANSFORMERS_4 = "transformers==4.57.6"
TRANSFORMERS_5 = "transformers>=5"
#: Asks for numpy below 2, works with 2; its other requirements are installed beside it.
PYCTCDECODE = "pyctcdecode==0.5.0"


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("ruff==0.17.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,flax,media,lm,train,serve,test]", "nox", "pyright==1.1.414")
    session.run("pyright")


@nox.session
def core(session: nox.Session) -> None:
    """The core without any framework."""
    session.install(*CONSTRAINTS, "-e", ".[media,lm,train,test]", DATASETS)
    rules = ("tests/test_imports.py", "tests/test_public_names.py", "tests/docs/test_commands_of_pages.py")
    session.run(*PYTEST, *FRAMEWORK_FREE, *rules, *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """The core with the lowest versions that pyproject.toml admits."""
    session.install("-c", "constraints-lowest.txt", "-e", ".[media,train,test]")
    session.run(*PYTEST, *FRAMEWORK_FREE, "tests/test_imports.py", "tests/test_public_names.py", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """The PyTorch back end, the command and the examples."""
    session.install(*CONSTRAINTS, "-e", ".[torch,onnx,lm,train,media,test]", DATASETS)
    session.run(
        *PYTEST,
        "tests/torch",
        "tests/cli",
        "tests/examples",
        "tests/docs/test_pages.py",
        *EVERY_BACKEND,
        *session.posargs,
    )


@nox.session(default=False)
def runtimes(session: nox.Session) -> None:
    """Exported programs in the programs of other people; those of Node where npm is."""
    session.install(*CONSTRAINTS, "-e", ".[torch,openvino,media,test]", SHERPA)
    if shutil.which("npm"):
        modules = session.create_tmp()
        session.run(*NPM_INSTALL, "--prefix", modules, *OF_NODE, external=True)
        session.env["NODE_MODULES"] = str(Path(modules) / "node_modules")
    session.run("pytest", "-q", "tests/runtimes", *session.posargs)


@nox.session
def serve(session: nox.Session) -> None:
    """The server, asked by the openai package as it is."""
    session.install(*CONSTRAINTS, "-e", ".[torch,lm,media,serve,test]", *CLIENTS)
    session.run(*PYTEST, "tests/serve", *session.posargs)


@nox.session(default=False)
def page(session: nox.Session) -> None:
    """The page in Chromium, with a picture of each state, and the openai package of npm: programs to be there."""
    folder = Path(session.create_tmp()).resolve()
    session.install(*CONSTRAINTS, "-e", ".[torch,media,serve,test]", "playwright")
    if shutil.which("npm"):
        session.run("npm", "install", "--no-save", "--prefix", str(folder), "openai@7", external=True)
    environment = {"PAGE_PICTURES": str(folder), "NODE_PATH": str(folder / "node_modules")}
    session.run("pytest", "-q", "tests/serve/page", *session.posargs, env=environment)


@nox.session
def tf(session: nox.Session) -> None:
    """The TensorFlow back end."""
    session.install(*CONSTRAINTS, "-e", ".[tf,train,media,test]")
    session.run(*PYTEST, "tests/tf", *H5, *EVERY_BACKEND, *session.posargs)


@nox.session
def flax(session: nox.Session) -> None:
    """The JAX back end."""
    session.install(*CONSTRAINTS, "-e", ".[flax,media,test]")
    session.run(*PYTEST, "tests/flax", *EVERY_BACKEND, *session.posargs)


@nox.session
def oracle(session: nox.Session) -> None:
    """Comparison with transformers 4.57.6 (huggingface_hub below 1.0)."""
    session.install(*CONSTRAINTS, "-e", ".[torch,test]", TRANSFORMERS_4, "accelerate")
    old_names = "tests/docs/test_migrating.py::test_old_names_of_transformers_are_right"
    session.run(*PYTEST, "tests/oracle", old_names, *session.posargs)


@nox.session
def oracle_tf(session: nox.Session) -> None:
    """The TensorFlow back end beside transformers 4.57.6, its PyTorch and its TensorFlow models, and ours."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,test]", TRANSFORMERS_4, "tf-keras")
    session.run(*PYTEST, "tests/oracle_tf", *session.posargs)


@nox.session
def oracle_flax(session: nox.Session) -> None:
    """Comparison of the JAX back end with transformers 4.57.6, which computes in PyTorch."""
    session.install(*CONSTRAINTS, "-e", ".[torch,flax,test]", TRANSFORMERS_4)
    session.run(*PYTEST, "tests/oracle_flax", *session.posargs)


@nox.session
def oracle_flax4(session: nox.Session) -> None:
    """flax_model.msgpack exchanged with transformers 4.57.6 and the old JAX that its Flax models need."""
    session.install("-c", "constraints-flax4.txt", "-e", ".[torch,test]", TRANSFORMERS_4, "flax", "optax")
    session.run(*PYTEST, "tests/oracle_flax4", *session.posargs)


@nox.session
def oracle_lm(session: nox.Session) -> None:
    """Decoding and language models beside pyctcdecode, kenlm (which needs a C++ compiler) and transformers 4.57.6."""
    session.install(*CONSTRAINTS, "-e", ".[torch,lm,train,test]", TRANSFORMERS_4, "kenlm", "pygtrie")
    session.install("--no-deps", PYCTCDECODE)
    session.run(*PYTEST, "tests/oracle_lm", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Every back end against the float64 reference: small models of every kind, faults, the mirror."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,flax,media,test]")
    # All checks of a case stay on one worker and share its numbers.
    session.run(*PYTEST, "--dist", "loadgroup", "conformance", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Thousands of damaged files for the readers; runs that are killed twenty times; tests marked as rare."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,flax,media,train,test]")
    session.run(*PYTEST, "tests/fuzz", *session.posargs)
    session.run(*PYTEST, "-m", "rare", "tests/cli", "tests/torch", "tests/flax", "conformance")


@nox.session(default=False)
def bulk(session: nox.Session) -> None:
    """A Ray cluster of two workers on this machine, and an object store."""
    session.install(*CONSTRAINTS, "-e", ".[torch,bulk,test]", "s3fs", "moto[server]>=5")
    session.run("pytest", "-q", "tests/cli/test_bulk.py", "tests/bulk", *session.posargs)


@nox.session(default=False)
def conformance_full(session: nox.Session) -> None:
    """The same for a base and a large model of full size, one back end after the other."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,flax,test]")
    session.run("pytest", "-q", "tests/full_size", *session.posargs)
    for name in ("torch", "tf", "flax"):
        session.run("pytest", "-q", "conformance/test_backends.py", "--full-size", "--backends", name, *session.posargs)


@nox.session(default=False)
def tpu(session: nox.Session) -> None:
    """Forward passes, losses and gradients of every kind of case compile ahead of time for a TPU; none is needed."""
    session.install(*CONSTRAINTS, "-e", ".[flax,tpu,test]")
    session.run(*PYTEST, "tests/tpu", *session.posargs)


@nox.session
def oracle5(session: nox.Session) -> None:
    """Files exchanged with transformers 5 (huggingface_hub 1.0 and later)."""
    session.install(*CONSTRAINTS, "-e", ".[torch,test]", TRANSFORMERS_5)
    session.run(*PYTEST, "tests/oracle5", *session.posargs)


@nox.session
def readme(session: nox.Session) -> None:
    """The README's commands as written, in a copy of the sources and a fresh environment."""
    session.install("pytest>=8.3")
    session.run("pytest", "-q", "tests/test_readme.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site in .nox/docs/tmp/site: it builds without a warning, its links lead somewhere."""
    session.install(*CONSTRAINTS, "-e", ".[docs]", "pytest>=8.3", "nbformat>=5.10")
    folder = Path(session.create_tmp())
    session.run("python", "docs/generating/pages.py", str(folder))
    with session.chdir(folder):
        session.run("zensical", "build", "--strict", "--clean")
    session.run("pytest", "-q", "tests/docs/test_site.py", *session.posargs, env={"DOCS_SITE": str(folder / "site")})


@nox.session
def guides(session: nox.Session) -> None:
    """The guides of the site: every code block runs, in order, and prints what the page shows."""
    session.install(*CONSTRAINTS, "-e", ".[torch,onnx,lm,train,media,plot,serve,test]")
    session.run(*PYTEST, "tests/docs/test_guides.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel holds everything: its command transcribes away from the sources."""
    session.install("build")
    session.run("python", "-m", "build", "--outdir", session.create_tmp())
    wheel = max(Path(session.create_tmp()).glob("*.whl"), key=os.path.getmtime)
    session.install(*CONSTRAINTS, f"{wheel}[torch]")
    sample = Path("samples/three-one-four.flac").resolve()
    session.chdir(session.create_tmp())
    heard = session.run("wav2vec2", "transcribe", str(sample), silent=True, stderr=None)
    if not isinstance(heard, str) or heard.strip() != "three one four":
        session.error(f"the installed wheel heard {heard!r}, not 'three one four'")


@nox.session(default=False)
def mutate(session: nox.Session) -> None:
    """`nox -s mutate -- FILE [TESTS]` changes a source file in many ways and lists what its tests do not notice."""
    session.install(*CONSTRAINTS, "-e", ".[torch,tf,flax,media,lm,train,test]")
    session.run("python", "tests/support/mutants.py", *session.posargs)
