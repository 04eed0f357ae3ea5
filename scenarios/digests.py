"""Sorted 64-bit digests: what is kept of a million rows.

An id's first 64 bits are its body's XOR those of its turn (see `request`), and
which of two equal rows comes first does not matter to the set of their ids. So
the order of the file need not be kept: after sorting, equal bodies stand
together and count themselves.
"""

from array import array
from bisect import bisect_left
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from scenarios.request import turn_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_AT_ONCE = 1 << 16


def digest_of(text: str) -> int:
    """Return 64 bits that stand for a text."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def place_of(values: "array[int]", value: int) -> int | None:
    """Return where a value stands among sorted ones."""
    place = bisect_left(values, value)
    return place if place < len(values) and values[place] == value else None


def repeated(digests: "array[int]") -> "tuple[array[int], int]":
    """Sort in place; return the values that occur more than once, and how many are repetitions."""
    values = _sorted(digests)
    again = values[1:][values[1:] == values[:-1]]
    # `again` is sorted: its distinct values are those that differ from the one before.
    distinct = again[again != _shifted(again)]
    return array("Q", distinct.tobytes()), len(again)


def request_digests(bodies: "array[int]", samples: int) -> "NDArray[np.uint64]":
    """Return the sorted `digest64` of every request of rows with these body digests (sorted in place)."""
    import numpy as np  # start-up: only a command that reads prompts needs it

    values = _sorted(bodies)
    turns = _turns(values)
    most = 1 if turns is None else int(turns.max()) + 1
    ids = np.empty(len(values) * samples, np.uint64)
    for sample in range(samples):
        part = ids[sample * len(values) : (sample + 1) * len(values)]
        masks = np.fromiter((turn_digest(turn, sample) >> 64 for turn in range(most)), np.uint64, count=most)
        if turns is None:
            part[:] = masks[0]
        else:
            np.take(masks, turns, out=part, mode="clip")
        np.bitwise_xor(part, values, out=part)
    ids.sort()
    return ids


def with_gaps(digests: "array[int]", gaps: "array[int]") -> "array[int]":
    """Return a copy of the digests with a 0 put in at each of these places (sorted) of the result."""
    out, start = array("Q"), 0
    with memoryview(digests).cast("B") as whole:  # a slice of the array itself would be one more copy
        for before, gap in enumerate(gaps):
            stop = 8 * (gap - before)
            out.frombytes(whole[start:stop])
            out.append(0)
            start = stop
        out.frombytes(whole[start:])
    return out


def rows_done(
    bodies: "array[int]", done: "NDArray[np.uint64]", repeats: "array[int]", samples: int
) -> "NDArray[np.bool_]":
    """Return which rows, by their bodies' digests, have all of their requests among the sorted `done`.

    Rows whose body stands several times (`repeats`, sorted) are never said to: which turn is which row's only
    counting tells.
    """
    import numpy as np

    values = np.frombuffer(bodies, dtype=np.uint64)
    found = np.ones(len(values), dtype=np.bool_)
    for sample in range(samples):
        found &= inside(values, done, np.uint64(turn_digest(0, sample) >> 64))
    if repeats:
        found &= ~inside(values, np.frombuffer(repeats, dtype=np.uint64))
    return found


def inside(
    values: "NDArray[Any]", among: "NDArray[Any]", mask: "np.uint64 | None" = None
) -> "NDArray[np.bool_]":
    """Return which values (XOR the mask, where there is one) stand in the sorted `among`."""
    import numpy as np

    found = np.zeros(len(values), dtype=np.bool_)
    if not len(among):
        return found
    for start in range(0, len(values), _AT_ONCE):  # places of all of them would be 16 bytes more a value
        part = values[start : start + _AT_ONCE]
        if mask is not None:
            part = part ^ mask
        places = np.searchsorted(among, part)
        places[places == len(among)] = 0
        np.equal(among[places], part, out=found[start : start + _AT_ONCE])
    return found


def _turns(values: "NDArray[np.uint64]") -> "NDArray[np.uint32] | None":
    """Return for each of the sorted values how many equal ones stand before it; None where all differ."""
    import numpy as np

    same = values[1:] == values[:-1]
    if not same.any():
        return None
    turns = np.arange(len(values), dtype=np.uint32)
    starts = turns.copy()
    starts[1:][same] = 0
    np.maximum.accumulate(starts, out=starts)
    turns -= starts
    return turns


def _sorted(digests: "array[int]") -> "NDArray[np.uint64]":
    """Sort the array itself and return a view of it, without a copy."""
    import numpy as np

    if not digests:
        return np.empty(0, np.uint64)
    values = np.frombuffer(digests, dtype=np.uint64)
    values.sort()
    return values


def _shifted(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    import numpy as np

    shifted = np.empty_like(values)
    shifted[1:] = values[:-1]
    shifted[:1] = ~values[:1]
    return shifted
