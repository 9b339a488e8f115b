"""Words and decimal numbers inside a text, thousands at a time: nothing becomes a Python object."""

from __future__ import annotations

import numpy as np

#: Of 64-bit MurmurHash, variant A.
FACTOR, SHIFT = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
EIGHT_BITS = np.arange(0, 64, 8, dtype=np.uint64)
#: (8,) masks of the first 0 to 7 bytes of eight; and the digits zero in the other bytes.
FIRST_BYTES = (np.uint64(1) << EIGHT_BITS) - np.uint64(1)
ZEROS = np.uint64(0x3030303030303030)
POINT, MINUS, ZERO = 46, 45, 48


class Spans:
    """Stretches of a text: starts and lengths, (spans,) int64 in bytes."""

    def __init__(self, text: bytes) -> None:
        """Take a text; its length is free."""
        self._letters = np.frombuffer(text + bytes(16), np.uint8)
        # The eight bytes from each place on, as one number. Little-endian, as everything that KenLM hashes.
        self._eights = np.ndarray((len(text) + 9,), "<u8", self._letters.data, 0, (1,))

    @property
    def letters(self) -> np.ndarray:
        """(bytes,) uint8, the text and 16 zeros."""
        return self._letters

    def hashes(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """64-bit MurmurHash, variant A, with seed 0 of each span, (spans,) uint64: KenLM's hash of a word."""
        hashes = lengths.astype(np.uint64) * FACTOR
        blocks = lengths >> 3
        going = np.flatnonzero(blocks > 0)
        position = 0
        while len(going):
            block = self._eights[starts[going] + position] * FACTOR
            block = (block ^ (block >> SHIFT)) * FACTOR
            hashes[going] = (hashes[going] ^ block) * FACTOR
            position += 8
            going = going[blocks[going] * 8 > position]
        rest = lengths & 7
        tails = self._eights[starts + blocks * 8] & FIRST_BYTES[rest]
        hashes = np.where(rest > 0, (hashes ^ tails) * FACTOR, hashes)
        hashes = (hashes ^ (hashes >> SHIFT)) * FACTOR
        return hashes ^ (hashes >> SHIFT)

    def numbers(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The decimal number in each span, (spans,) float64. Raises ``ValueError`` where there is none."""
        values, plain = self._plain_numbers(starts, lengths)
        for row in np.flatnonzero(~plain):  # exponents, more than eight decimals, infinities: rare or wrong
            text = self._letters[starts[row] : starts[row] + lengths[row]].tobytes()
            if b"_" in text:
                raise ValueError(text)
            values[row] = float(text)
        return values

    def _plain_numbers(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values, and where they are right: a minus or none, at most four digits, a point, at most eight digits."""
        letters = self._letters
        ends = starts + lengths
        negative = letters[starts] == MINUS
        place = starts + negative
        whole = np.zeros(len(starts), np.int64)
        inside = place < ends
        plain = inside & (letters[place] != POINT)
        for _ in range(4):
            digit = letters[place] - np.uint8(ZERO)  # wraps around for what is below a zero
            inside &= (digit <= 9) & (place < ends)
            whole = np.where(inside, whole * 10 + digit, whole)
            place = place + inside
        point = (place < ends) & (letters[place] == POINT)
        place = place + point
        decimals = ends - place
        plain &= (decimals <= 8) & (point | (decimals == 0))
        mask = np.where(decimals >= 8, ~np.uint64(0), FIRST_BYTES[np.clip(decimals, 0, 7)])
        eights = (self._eights[np.minimum(place, len(self._eights) - 1)] & mask) | (ZEROS & ~mask)
        high = np.uint64(0xF0F0F0F0F0F0F0F0)
        plain &= ((eights & high) == ZEROS) & (((eights + np.uint64(0x0606060606060606)) & high) == ZEROS)
        values = (whole * 100_000_000 + _eight_digits(eights)) / 1e8
        return np.where(negative, -values, values), plain


def _eight_digits(eights: np.ndarray) -> np.ndarray:
    """The number that eight digits in eight bytes write, first digit lowest: pairs, then fours, then all, at once."""
    pairs = (eights - ZEROS) * np.uint64(10) + ((eights - ZEROS) >> np.uint64(8))
    one_in_four = np.uint64(0x000000FF000000FF)
    first = (pairs & one_in_four) * np.uint64(0x000F424000000064)
    second = ((pairs >> np.uint64(16)) & one_in_four) * np.uint64(0x0000271000000001)
    return ((first + second) >> np.uint64(32)).astype(np.int64)
