"""The dependency rules of ARCHITECTURE.md, by looking at the sources and by importing in a fresh process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "jaxlib", "flax", "optax", "orbax"}
BACKENDS = {
    "wav2vec2_torch": {"torch"},
    "wav2vec2_tf": {"tensorflow", "keras"},
    "wav2vec2_flax": {"jax", "flax", "optax", "orbax"},
}
ORACLES = {"transformers", "pyctcdecode", "kenlm", "torchaudio", "fairseq"}
# What `import wav2vec2_core` must not load: frameworks, and libraries that one function needs.
HEAVY = (
    FRAMEWORKS | ORACLES | {"safetensors", "huggingface_hub", "soundfile", "soxr", "av", "typer", "rich", "ml_dtypes"}
)
PRESENT = [name for name in BACKENDS if (ROOT / name).is_dir()]


def sources(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no sources in {package}"
    return files


def imports(path):
    """Top-level and dotted names of everything a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name):
    return name.split(".")[0]


@pytest.mark.parametrize("path", sources("wav2vec2_core"), ids=lambda path: str(path.relative_to(ROOT)))
def test_core_imports_no_framework_and_no_back_end(path):
    assert not {top(name) for name in imports(path)} & (FRAMEWORKS | ORACLES | set(BACKENDS) | {"conformance"})


def test_the_core_names_no_package_of_a_back_end():
    assert not [path.name for path in sources("wav2vec2_core") if any(name in path.read_text() for name in BACKENDS)]


@pytest.mark.parametrize("package", PRESENT)
def test_a_back_end_imports_the_core_and_its_own_framework_only(package):
    others = (FRAMEWORKS - BACKENDS[package]) | ORACLES | (set(BACKENDS) - {package}) | {"conformance"}
    for path in sources(package):
        assert not {top(name) for name in imports(path)} & others, path


#: Every file of a back end -> its rank: a file imports files of lower ranks only. Losses and weights stand alone, but
#: that weights are translated by the types of layers; the package itself offers the heads; what is on top of them is
#: for one purpose each.
RANKS = {
    "dropout": 0,
    "block_attention": 1,
    "layers": 2, "losses": 2, "keras_steps": 2, "_keras_backend": 2, "cuda_graphs": 2, "distributed": 2,
    "optimizers": 2, "hlo": 2, "compiled": 2,
    "weights": 3, "kernels": 3,
    "pretrained": 4, "fast_layers": 4,
    "model": 5,
    "heads": 6, "tiled_encoder": 6, "packed_transformer": 6,
    "auto": 7, "export_program": 7,
    "__init__": 8,
    "steps": 8, "export_onnx": 8, "export_openvino": 8, "export_pt2": 8,
    "inference": 9, "train": 9, "export": 9,
    "finetuning": 10, "tpu_check": 10,
}  # fmt: skip


def modules_of(package):
    """Dotted name -> file of every module of a package."""
    found = {}
    for path in sources(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def dependencies(path, modules):
    """The modules among ``modules`` that a file imports at any depth; not those it needs for annotations alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from {name if name in modules else node.module} & modules.keys()


@pytest.mark.parametrize("package", PRESENT)
def test_a_file_of_a_back_end_imports_lower_ranks_only(package):
    """layers <- model <- heads <- train, inference, export."""
    modules = modules_of(package)
    stems = {name: "__init__" if name == package else name.removeprefix(f"{package}.") for name in modules}
    assert set(stems.values()) <= RANKS.keys(), "give a new file a rank"
    for name, path in modules.items():
        own = stems[name]
        used = {stems[other] for other in dependencies(path, modules)}
        wrong = {other for other in used if RANKS[other] >= RANKS[own]}
        assert not wrong, f"{path.name}, rank {RANKS[own]}, imports {wrong}"


def circle_in(graph):
    """Names that lead back to the first one, or nothing."""
    state = {}  # False: on the way; True: done

    def visit(name, way):
        state[name] = False
        for other in sorted(graph[name]):
            if state.get(other) is False:
                return [*way[way.index(other) :], other]
            if other not in state and (found := visit(other, [*way, other])):
                return found
        state[name] = True
        return []

    return next((found for name in graph if name not in state and (found := visit(name, [name]))), [])


@pytest.mark.parametrize("package", ["wav2vec2_core", *PRESENT, "conformance"])
def test_no_import_circle_between_files_or_folders(package):
    """A folder counts with the folders within it; each file that lies in none counts for itself."""
    modules = modules_of(package)
    files = {name: {*dependencies(path, modules)} - {name} for name, path in modules.items()}
    assert not circle_in(files)

    def place(name):
        first = ".".join(name.split(".")[:2])
        return first if (ROOT / first.replace(".", "/")).is_dir() or name == first else name

    folders = {}
    for name, used in files.items():
        folders.setdefault(place(name), set()).update({place(other) for other in used} - {place(name)})
    assert not circle_in(folders)


def test_circles_are_seen():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def modules_after(statement):
    code = f"{statement}; import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return {top(name) for name in done.stdout.split()}


def test_importing_the_core_loads_numpy_only():
    loaded = modules_after("from wav2vec2_core import *")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_the_core_imports_what_is_asked_for():
    import wav2vec2_core

    assert set(wav2vec2_core.__all__) <= set(dir(wav2vec2_core))
    assert {getattr(wav2vec2_core, name).__name__ for name in wav2vec2_core.__all__} == set(wav2vec2_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Wav2Vec3Config'"):
        _ = wav2vec2_core.Wav2Vec3Config
    code = "import wav2vec2_core.decoding, sys; assert 'wav2vec2_core.tokenization' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_importing_the_command_loads_no_framework():
    assert not modules_after("import wav2vec2_core.cli") & (FRAMEWORKS | ORACLES | {"soundfile", "huggingface_hub"})


@pytest.mark.parametrize("package", PRESENT)
def test_importing_a_back_end_loads_no_sibling(package):
    pytest.importorskip(sorted(BACKENDS[package])[0], reason=f"the framework of {package} is not installed here")
    loaded = modules_after(f"import {package}")
    assert package in loaded
    assert not loaded & (set(BACKENDS) - {package})
