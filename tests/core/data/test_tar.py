"""Tars: every format that tar programs write, and damage anywhere in one."""

import io
import random
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_shards import write_tar

from wav2vec2_core.data.tar import read_tar
from wav2vec2_core.errors import AudioError, InputError

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
LETTERS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=160)


def contents(path):
    """Name -> bytes, each read twice: with the headers, and by its place."""
    found = {}
    for member, content in read_tar(path, lambda name: True):
        assert member() == content
        found[member.name] = content
    return found


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(st.tuples(LETTERS, LETTERS).map("/".join), st.binary(max_size=1200), max_size=5),
    format=st.sampled_from(FORMATS[1:]),
    mtime=st.sampled_from([0, 1.5]),
)
def test_what_tarfile_writes_is_read(tmp_path_factory, files, format, mtime):
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", files, format, mtime=mtime)
    assert contents(path) == files


def test_names_of_two_parts_and_names_that_are_not_text(tmp_path):
    folder = "f" * 100
    path = write_tar(tmp_path / "a.tar", {f"{folder}/{'n' * 90}": b"1"}, tarfile.USTAR_FORMAT)
    assert contents(path) == {f"{folder}/{'n' * 90}": b"1"}
    path = write_tar(tmp_path / "b.tar", {"a\udcff.txt": b"2"})
    assert contents(path) == {"a\udcff.txt": b"2"}


def test_a_size_in_an_extended_header_counts(tmp_path):
    """So tars hold files of 8 GB and more: the header itself says 0 then."""
    path = write_tar(tmp_path / "a.tar", {"a": b"1" * 600, "b": b"2"}, tarfile.PAX_FORMAT, pax_headers={"size": "600"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"12 size=600", b"12 size=001", 2).replace(b"12 size=001", b"12 size=600", 1))
    assert contents(path) == {"a": b"1" * 600, "b": b"2"}


def test_sums_of_signed_bytes_are_sums_too(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"ü": b"1"})
    content = bytearray(path.read_bytes())
    sums = [
        sum(byte - 256 * (byte > 127) * sign for byte in [*content[:148], *b" " * 8, *content[156:512]])
        for sign in (1, -1)
    ]
    content[148:156] = b"%06o\0 " % sums[0]
    path.write_bytes(content)
    assert contents(path) == {"ü": b"1"}
    content[148:156] = b"%06o\0 " % sums[1]
    path.write_bytes(content)
    with pytest.raises(AudioError, match="does not begin as a tar"):
        contents(path)


def test_folders_devices_and_pipes_are_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("p", tarfile.FIFOTYPE), ("c", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("f"), io.BytesIO())
    assert contents(tmp_path / "a.tar") == {"f": b""}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_and_sparse_files_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.flac")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=r"'1\.flac' is a link or a sparse file"):
        contents(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as tar:
        tar.addfile(tarfile.TarInfo("f"), io.BytesIO())
    with pytest.raises(InputError, match="is compressed"):
        contents(tmp_path / "a.tar")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.txt": b"x" * 2000})
    with pytest.raises(InputError, match=r"'a.txt' has 2000 bytes, at most 1999 are read"):
        list(read_tar(path, lambda name: True, largest=1999))
    assert [content for _, content in read_tar(path, largest=1999)] == [None]


def test_every_place_to_cut_a_tar_is_noticed(tmp_path):
    """No sample is lost without a word: a tar that is cut, even between two members, lacks its end."""
    whole = write_tar(tmp_path / "a.tar", {"a": b"1" * 600, "b": b"2" * 100}, tarfile.PAX_FORMAT, mtime=0.5)
    content = whole.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512  # the last block that is not zero
    cut = tmp_path / "cut.tar"
    for size in [*range(0, end, 128), *range(512, end, 512), end, end + 511]:
        cut.write_bytes(content[:size])
        with pytest.raises(AudioError, match="is damaged: at byte"):
            contents(cut)
    cut.write_bytes(content[: end + 512])  # one block of zeros is an end
    assert len(contents(cut)) == 2


def test_tars_that_were_joined_and_other_files_are_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a": b"1"})
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(AudioError, match="more bytes after it"):
        contents(path)
    path.write_bytes(b"RIFF" + b"x" * 2000)
    with pytest.raises(AudioError, match="does not begin as a tar"):
        contents(path)
    with pytest.raises(AudioError, match="No such file"):
        contents(tmp_path / "none.tar")


def test_a_tar_that_becomes_shorter_is_an_error(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a": b"1" * 100})
    ((member, _),) = read_tar(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(AudioError, match="a is cut"):
        member()
    path.unlink()
    with pytest.raises(AudioError, match="No such file"):
        member()


def test_damaged_headers_end_in_a_clear_error_or_are_read_within_the_file(tmp_path):
    generator = random.Random(1)
    files = {"a" * 150 + ".txt": b"1" * 600, "ü.txt": b"2" * 10, "c.txt": b""}
    path = tmp_path / "damaged.tar"
    wholes = [write_tar(path, files, kind, mtime=0.5).read_bytes() for kind in FORMATS[1:]]
    messages, sound = [], 0
    for number in range(600):
        content = bytearray(wholes[number % 2])
        for _ in range(generator.choice([1, 1, 3, 20])):
            content[generator.randrange(6000)] = generator.choice([0, 32, 48, 55, 57, 128, 255])
        if number % 3 == 0:  # headers with right sums, so that the fields themselves are met
            for begin in range(0, 6000, 512):
                block = content[begin : begin + 512]
                if block[257:262] == b"ustar":
                    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
                    content[begin + 148 : begin + 156] = b"%06o\0 " % total
        path.write_bytes(content)
        try:
            for member, _ in read_tar(path):
                assert member.offset + member.size <= len(content)
            sound += 1
        except (AudioError, InputError) as error:
            messages.append(str(error))
    assert 10 < sound < 400
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_size_beyond_the_file_and_one_that_is_none(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a": b"1" * 10})
    content = bytearray(path.read_bytes())
    for size in (b"77777777777\0", b"\x80" + b"\xff" * 11, b"9bad       \0", b"\xff" * 12):
        content[124:136] = size
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
        path.write_bytes(content)
        with pytest.raises(AudioError, match="reaches beyond the end"):
            contents(path)
