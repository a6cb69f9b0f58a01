"""Reading sparse disk files: what differs, and whether anything changed."""

import hashlib
import os

_PIECE = 1 << 20
_ZEROES = bytes(_PIECE)


def data_ranges(fd, size):
    """(offset, length) of what is not a hole."""
    at = 0
    while at < size:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole to the end
            return
        at = min(size, os.lseek(fd, first, os.SEEK_HOLE))
        yield first, at - first


def digest(path):
    """Of the content; the same whether zeroes are stored or left out."""
    result = hashlib.sha256()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        result.update(size.to_bytes(8, "little"))
        pieces = set()
        for offset, length in data_ranges(file.fileno(), size):
            pieces.update(range(offset // _PIECE,
                                (offset + length - 1) // _PIECE + 1))
        for piece in sorted(pieces):
            data = os.pread(file.fileno(), _PIECE, piece * _PIECE)
            if data != _ZEROES[:len(data)]:
                result.update(piece.to_bytes(8, "little"))
                result.update(data)
    return result.hexdigest()


def differing_units(a, b, unit):
    """Numbers of the `unit`-byte pieces in which two files differ."""
    units = []
    with open(a, "rb") as first, open(b, "rb") as second:
        size = os.fstat(first.fileno()).st_size
        if size != os.fstat(second.fileno()).st_size:
            raise ValueError(f"{a} and {b} are not of one size")
        pieces = set()
        for file in (first, second):
            for offset, length in data_ranges(file.fileno(), size):
                pieces.update(range(offset // _PIECE,
                                    (offset + length - 1) // _PIECE + 1))
        for piece in sorted(pieces):
            at = piece * _PIECE
            one = os.pread(first.fileno(), _PIECE, at)
            other = os.pread(second.fileno(), _PIECE, at)
            if one == other:
                continue
            units += [(at + i) // unit for i in range(0, len(one), unit)
                      if one[i:i + unit] != other[i:i + unit]]
    return sorted(set(units))


def copy_sparse(source, target):
    with open(source, "rb") as one, open(target, "wb") as other:
        size = os.fstat(one.fileno()).st_size
        os.truncate(other.fileno(), size)
        for offset, length in data_ranges(one.fileno(), size):
            end = offset + length
            while offset < end:
                data = os.pread(one.fileno(), min(_PIECE, end - offset), offset)
                os.pwrite(other.fileno(), data, offset)
                offset += len(data)
