"""What a command of the shell gave, checked: shared by the tests of the commands."""


def one_error(result, *parts):
    """Exit code 1, nothing on stdout, and one line on stderr that has all ``parts``."""
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err
