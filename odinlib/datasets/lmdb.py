"""The entries of an LMDB file, read without the database library: what LSUN's publisher ships its images in.

Only what a read-only walk needs: the newer of the two meta pages, branch pages, leaf pages and overflow pages
(LMDB's `mdb.c`, data version 1, 64 bit, little endian).
"""

import struct
from collections.abc import Iterator

from odinlib.errors import UserError

_MAGIC = 0xBEEFC0DE
_HEADER = 16  # page number, padding, flags, lower and upper bound of the free space
_BRANCH, _LEAF = 0x01, 0x02
_BIG_DATA = 0x01  # the value lies on overflow pages of its own
_NO_PAGE = 2**64 - 1


def items(data: bytes, name: str = "data.mdb") -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the main database, in the order of the keys.

    Args:
        data: the bytes of `data.mdb`.
        name: what to call it in an error.

    Raises:
        UserError: it is no LMDB file, or is truncated.
    """
    try:
        size, root, pages = _main_database(data)
        left = len(data)
        for key, value in () if root == _NO_PAGE else _walk(data, size, root, pages, set()):
            if (left := left - len(value)) < 0:  # all slots may name one large value
                raise struct.error("its values lie upon each other")
            yield key, value
    except (struct.error, IndexError, RecursionError) as error:
        raise UserError(f"{name} is damaged ({error})", remedy="fetch it again") from error


def _main_database(data: bytes) -> tuple[int, int, int]:
    """The page size, and the root and the number of pages of the main database, from the newer meta page."""
    size = struct.unpack_from("<I", data, _HEADER + 24)[0]  # kept where the free list's padding would be
    if not 256 <= size <= 2**16:
        raise struct.error(f"pages of {size} bytes")
    metas = []
    for offset in (_HEADER, _HEADER + size):
        magic, version = struct.unpack_from("<II", data, offset)
        if magic != _MAGIC or version != 1:
            raise struct.error("not an LMDB file of version 1")
        root, last, transaction = struct.unpack_from("<QQQ", data, offset + 24 + 48 + 40)
        metas.append((transaction, root, last + 1))
    _, root, pages = max(metas)
    return size, root, pages


def _walk(data: bytes, size: int, page: int, pages: int, seen: set[int]) -> Iterator[tuple[bytes, bytes]]:
    if page >= pages:
        raise struct.error(f"page {page} is not in the file")
    if page in seen:  # or pages that name each other would be walked for ever
        raise struct.error(f"page {page} is in the tree twice")
    seen.add(page)
    start = page * size
    flags, lower = struct.unpack_from("<HH", data, start + 10)
    for slot in range((lower - _HEADER) // 2):
        node = start + struct.unpack_from("<H", data, start + _HEADER + 2 * slot)[0]
        low, high, node_flags, key_size = struct.unpack_from("<HHHH", data, node)
        key, value = node + 8, node + 8 + key_size
        if flags & _BRANCH:
            yield from _walk(data, size, low | high << 16 | node_flags << 32, pages, seen)
        elif flags & _LEAF:
            length = low | high << 16
            if node_flags & _BIG_DATA:
                value = struct.unpack_from("<Q", data, value)[0] * size + _HEADER
            if value + length > len(data):
                raise struct.error("a value runs past the end")
            yield data[key : key + key_size], data[value : value + length]
        else:
            raise struct.error(f"page {page} is neither a branch nor a leaf")
