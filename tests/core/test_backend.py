"""Back ends are found by their entry points, those of other distributions too."""

import sys

import pytest

from wav2vec2_core import backend
from wav2vec2_core.backend import backend_names, is_installed, load_backend
from wav2vec2_core.errors import BackendError, InputError


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a distribution that registers a back end; returns a function of its name, the back end and its files."""
    packages = set()

    def install(name, point, files):
        package = point.split(" = ")[1]
        folder = tmp_path / name
        (folder / package).mkdir(parents=True)
        for file, text in files.items():
            (folder / package / file).write_text(text)
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[wav2vec2.backends]\n{point}\n")
        monkeypatch.syspath_prepend(folder)
        packages.add(package)

    yield install
    for module in [module for module in sys.modules if module.split(".")[0] in packages]:
        del sys.modules[module]


def test_ours_come_first():
    assert backend_names()[:3] == ["torch", "tf", "flax"]


def test_a_back_end_of_another_distribution(distribution):
    inference = (
        "def devices():\n    return ['abacus', 'cpu']\ndef load_model(source, **options):\n    return source, options\n"
    )
    distribution("speech-on-beads", "beads = beads_backend", {"__init__.py": "", "inference.py": inference})
    assert backend_names() == ["torch", "tf", "flax", "beads"]
    assert is_installed("beads")
    beads = load_backend("beads")
    assert beads.inference.devices() == beads.devices() == ["abacus", "cpu"]
    assert beads.load_model("here", head="ForCTC") == ("here", {"head": "ForCTC"})
    assert (beads.name, beads.install) == ("beads", "speech-on-beads")
    for part in ("training", "export"):
        with pytest.raises(BackendError, match=f"back end 'beads' has no part '{part[:5]}"):
            getattr(beads, part)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"__init__.py": "import not_on_this_machine"}, 'needs not_on_this_machine, .*: pip install "speech-on-beads"'),
        (
            {"__init__.py": "raise ImportError('old libbeads\\nmore')"},
            r"cannot be imported \(old libbeads\): reinstall",
        ),
        ({"__init__.py": "raise OSError('libbeads.so')"}, r"cannot be imported \(libbeads.so\): reinstall"),
    ],
)
def test_one_that_does_not_import_is_an_error_that_names_it(distribution, files, message):
    distribution("speech-on-beads", "beads = beads_backend", files)
    assert not is_installed("beads")
    with pytest.raises(BackendError, match=f"back end 'beads' {message}") as caught:
        load_backend("beads")
    assert "\n" not in str(caught.value)


def test_a_part_that_does_not_import(distribution):
    files = {"__init__.py": "", "inference.py": "import not_on_this_machine"}
    distribution("speech-on-beads", "beads = beads_backend", files)
    with pytest.raises(BackendError, match="back end 'beads' needs not_on_this_machine"):
        _ = load_backend("beads").inference


def test_two_that_claim_one_name(distribution):
    distribution("speech-on-beads", "beads = beads_backend", {"__init__.py": ""})
    distribution("other-beads", "beads = other_beads", {"__init__.py": ""})
    with pytest.raises(BackendError, match=r"two packages register a back end 'beads', .* uninstall one"):
        backend_names()


def test_a_framework_that_is_missing(monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == "wav2vec2_torch"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match=r'"wav2vec2-frameworks\[torch\]"'):
        load_backend("torch")


def test_an_unknown_name(monkeypatch):
    with pytest.raises(InputError, match="back end 'mxnet' is unknown: use one of torch, tf, flax"):
        load_backend("mxnet")
    monkeypatch.setattr(backend, "entry_points", lambda group: [])
    with pytest.raises(InputError, match="back end 'mxnet' is unknown: none is registered"):
        load_backend("mxnet")
