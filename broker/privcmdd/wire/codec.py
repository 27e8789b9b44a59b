# SPDX-License-Identifier: Apache-2.0
"""From bytes to values and back, with every bound checked before memory is allocated.

Decoding has two steps. The *scanner* reads the headers of a message, wherever the stream is cut, and finds where the
message ends. It refuses a message that is nested too deeply, has too many or too long values, or has a type that the
protocol does not use. Only then does msgpack get the bytes, of exactly one complete and harmless message. msgpack
alone is not enough: 1,500 bytes of nested array headers make it hold 40 MiB, and of duplicate keys it takes the last
without an error.

No Unpacker is kept: one costs 44 KiB for each connection, and CVE-2026-57585 is about an Unpacker that is used again
after an error. A scan is resumed from four small attributes.
"""

from collections.abc import Callable
from typing import Final

import msgpack

from privcmdd.wire import limits

Buffer = bytes | bytearray | memoryview


class CodecError(Exception):
    """The bytes are not a message of this protocol; the rest of the stream cannot be trusted.

    Attributes:
        reason: one word for counters and logs: `depth`, `nodes`, `str`, `bin`, `size`, `type`, `key`,
            `duplicate`, `utf8`, `shape`, `truncated`.
        text: a sentence with the offending value and what was expected.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


def _sizes() -> bytes:
    """Return, for each first byte of a value, the size of the value; 0 where the first byte does not tell it."""
    table = bytearray(256)
    table[0x00:0x80] = b"\1" * 128  # positive fixint
    table[0xE0:0x100] = b"\1" * 32  # negative fixint
    table[0xA0:0xC0] = bytes(range(1, 33))  # fixstr
    table[0xC0] = table[0xC2] = table[0xC3] = 1  # nil, false, true
    table[0xCC:0xD4] = bytes((2, 3, 5, 9)) * 2  # u8..u64, i8..i64
    return bytes(table)


_SIZES: Final = _sizes()

# First byte -> size of the length field, for each type that has a length field.
_LENGTH_BYTES: Final = {
    0xC4: 1, 0xC5: 2, 0xC6: 4,  # bin
    0xD9: 1, 0xDA: 2, 0xDB: 4,  # str
    0xDC: 2, 0xDD: 4,  # array
    0xDE: 2, 0xDF: 4,  # map
}  # fmt: skip

_REFUSED: Final = {
    0xC1: "0xc1, which MessagePack never uses",
    0xCA: "a float", 0xCB: "a float",
    0xC7: "an extension type", 0xC8: "an extension type", 0xC9: "an extension type",
    0xD4: "an extension type", 0xD5: "an extension type", 0xD6: "an extension type",
    0xD7: "an extension type", 0xD8: "an extension type",
}  # fmt: skip


class Scanner:
    """Finds where a message ends, in however many pieces the message comes, in time linear in its bytes.

    Between calls the scanner remembers only its position and how many values each open container still lacks.
    """

    __slots__ = ("_left", "_nodes", "_offset", "_outer")

    def __init__(self) -> None:
        self._reset()

    @property
    def n_expected(self) -> int:
        """How long the unfinished message is at least, as far as its headers have told; in bytes, 0 without one."""
        return self._offset

    def _reset(self) -> None:
        self._offset = 0  # of the next header, from the message's first byte
        self._left = 1  # values still to come in the innermost open container; 1 for the message itself
        self._outer: list[int] = []  # the same for the containers around it
        self._nodes = 1

    def scan(self, data: Buffer, start: int) -> int:  # noqa: PLR0915 - every message passes here: no calls between
        """Look for the end of the message that begins at `start`.

        Args:
            data: all bytes of the message that have come; after -1, the same bytes and those that came since.
            start: index of the message's first byte in `data`.

        Returns:
            The index behind the message's last byte, or -1 when the last byte has not come yet.

        Raises:
            CodecError: the message breaks a bound or has a refused type. The scanner cannot be used any more.
        """
        end = len(data)
        position = start + self._offset
        left = self._left
        outer = self._outer
        nodes = self._nodes
        while left:
            if position >= end:
                break
            code = data[position]
            size = _SIZES[code]
            if size:
                position += size
                left -= 1
            elif code < 0xA0:  # fixmap, fixarray
                n_values = (code & 15) << (code < 0x90)
                nodes += n_values
                if nodes > limits.NODES or len(outer) >= limits.DEPTH:
                    raise _too_much(nodes, len(outer))
                outer.append(left - 1)
                left = n_values
                position += 1
            else:
                width = _LENGTH_BYTES.get(code)
                if width is None:
                    raise CodecError("type", f"the message holds {_REFUSED[code]}; this protocol has none")
                body = position + 1 + width
                if body > end:
                    break
                length = int.from_bytes(data[position + 1 : body], "big")
                if code >= 0xDC:
                    n_values = length << (code >= 0xDE)
                    nodes += n_values
                    if nodes > limits.NODES or len(outer) >= limits.DEPTH:
                        raise _too_much(nodes, len(outer))
                    outer.append(left - 1)
                    left = n_values
                    position = body
                else:
                    position = body + length
                    if code != 0xC4:  # a bin of fewer than 256 bytes is within every bound
                        _check_length(code, length, position - start)
                    left -= 1
            while not left and outer:
                left = outer.pop()
        if left or position > end:
            self._offset = position - start
            self._left = left
            self._nodes = nodes
            return -1
        self._offset = 0
        self._left = self._nodes = 1
        return position


def _too_much(n_nodes: int, depth: int) -> CodecError:
    """Make the error for a container that is too deep or too large; no memory is allocated for the container."""
    if depth >= limits.DEPTH:
        return CodecError("depth", f"containers are nested deeper than {limits.DEPTH}")
    return CodecError("nodes", f"the message declares {n_nodes} values, at most {limits.NODES} may come")


def _check_length(code: int, length: int, message_bytes: int) -> None:
    if code >= 0xD9:
        if length > limits.STR_BYTES:
            raise CodecError("str", f"a string of {length} bytes; at most {limits.STR_BYTES} may come")
    elif length > limits.BIN_BYTES:
        raise CodecError("bin", f"a bin of {length} bytes; at most {limits.BIN_BYTES} may come")
    if message_bytes > limits.MESSAGE_BYTES:
        raise CodecError("size", f"the message passes {limits.MESSAGE_BYTES} bytes")


def _map(pairs: list[tuple[object, object]]) -> dict[str, object]:
    """Build a map whose keys are strings, each key once."""
    try:
        result = dict(pairs)
    except TypeError:  # an array or a map as key
        raise CodecError("key", "a map's key is a container; keys are strings") from None
    if len(result) != len(pairs):
        raise CodecError("duplicate", f"a map names a key twice: {_duplicate(pairs)!r}")
    for key in result:
        if key.__class__ is not str:
            return _named(pairs)
    return result  # type: ignore[return-value]


def _named(pairs: list[tuple[object, object]]) -> dict[str, object]:
    """Build a map that has keys of type bin: clients without a str type send them. Slow, so `_map` tries first."""
    result: dict[str, object] = {}
    for key, value in pairs:
        if isinstance(key, bytes) and key.isascii():
            name = key.decode("ascii")
        elif isinstance(key, str):
            name = key
        else:
            raise CodecError("key", f"a map's key is {str(key)[:40]} ({type(key).__name__}); keys are strings")
        if name in result:
            raise CodecError("duplicate", f"a map names a key twice: {name[:40]!r}")
        result[name] = value
    return result


def _duplicate(pairs: list[tuple[object, object]]) -> str:
    seen: set[object] = set()
    for key, _ in pairs:
        if key in seen:
            return str(key)[:40]
        seen.add(key)
    raise AssertionError("no key comes twice")


def decode(data: Buffer) -> object:
    """Decode exactly one message whose end a `Scanner` has found.

    Raises:
        CodecError: a string is not UTF-8, or a key is not a string or comes twice.
    """
    try:
        return msgpack.unpackb(data, object_pairs_hook=_map, strict_map_key=False)
    except UnicodeDecodeError as error:
        raise CodecError("utf8", f"a string is not UTF-8 ({error.reason} at its byte {error.start})") from None


# One packer for the whole process: a new packer for each answer allocates and clears its buffer each time.
_PACKER: Final = msgpack.Packer()
pack: Final[Callable[[object], bytes]] = _PACKER.pack
array_header: Final[Callable[[int], bytes]] = _PACKER.pack_array_header
map_header: Final[Callable[[int], bytes]] = _PACKER.pack_map_header
