"""The mutation session makes changes of every kind and finds the tests of a file."""

from mutants import ROOT, mutants, own_tests

SOURCE = '''
def share(part: int = 3, whole: float = 2.0) -> bool:
    """Text stays: 1 + 1 < 3."""
    if part < 0 and not whole:
        raise ValueError("part < 0")
    print(part)
    return max(part, 1) / whole == 0.5
'''


def test_changes_of_every_kind():
    made = {(mutant.before, mutant.after) for mutant in mutants(SOURCE)}
    assert made >= {
        ("3", "4"), ("2.0", "4.0"), ("part < 0", "part <= 0"), ("part < 0 and (not whole)", "part < 0 or not whole"),
        ("not whole", "whole"), ("raise ValueError('part < 0')", "pass"), ("print(part)", "pass"), ("max", "min"),
        ("max(part, 1) / whole", "max(part, 1) * whole"), ("0.5", "1.0"),
    }  # fmt: skip
    sources = [mutant.source for mutant in mutants(SOURCE)]
    assert len(set(sources)) == len(sources)
    assert all(source.count("Text stays: 1 + 1 < 3.") == 1 for source in sources)
    for source in sources:
        compile(source, "mutant", "exec")


def test_a_files_own_tests():
    assert own_tests(ROOT / "wav2vec2_core" / "masking.py") == ["tests/core/test_masking.py"]
    assert own_tests(ROOT / "wav2vec2_torch" / "losses.py") == [
        "tests/torch/test_torch_losses.py", "conformance/test_backends.py", "--backends", "torch",
    ]  # fmt: skip
