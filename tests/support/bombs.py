# SPDX-License-Identifier: Apache-2.0
"""Messages that each break one bound of the wire."""

import struct

import msgpack

ARRAY16, ARRAY32, MAP16, MAP32 = b"\xdc", b"\xdd", b"\xde", b"\xdf"


BOMBS: dict[str, tuple[bytes, str]] = {
    "arrays of 65,535 inside each other": ((ARRAY16 + b"\xff\xff") * 500, "nodes"),
    "arrays of one inside each other": (b"\x91" * 2000, "depth"),
    "maps of one inside each other": (b"\x81\xa1k" * 2000, "depth"),
    "a million empty maps": (ARRAY32 + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000, "nodes"),
    "64 times 64 times 64 maps": (
        b"\xdc\x00\x40" + (b"\xdc\x00\x40" + (b"\xdc\x00\x40" + b"\x80" * 64) * 64) * 64,
        "nodes",
    ),
    "65,000 maps": (ARRAY16 + struct.pack(">H", 65_000) + b"\x80" * 65_000, "nodes"),
    "2^32-1 array items": (ARRAY32 + b"\xff" * 4, "nodes"),
    "2^32-1 map items": (MAP32 + b"\xff" * 4, "nodes"),
    "65,535 map items": (MAP16 + b"\xff" * 2, "nodes"),
    "a bin of 2^32-1": (b"\xc6" + b"\xff" * 4, "bin"),
    "a string of 2^32-1": (b"\xdb" + b"\xff" * 4, "str"),
    "a string of 65,535": (b"\xda" + b"\xff" * 2, "str"),
    "an extension of 2^32-1": (b"\xc9" + b"\xff" * 4 + b"\x01", "type"),
    "a timestamp": (b"\xd6\xff\x00\x00\x00\x00", "type"),
    "a float": (msgpack.packb(0.5), "type"),
    "a NaN": (msgpack.packb(float("nan"), use_single_float=True), "type"),
    "the byte that is never used": (b"\x91\xc1", "type"),
    "two bins of 9 MiB": (b"\x92" + (b"\xc6" + struct.pack(">I", 9 << 20) + bytes(9 << 20)) * 2, "size"),
    "text that is not UTF-8": (b"\xa2\xc3\x28", "utf8"),
    "half a surrogate pair": (b"\xa3\xed\xa0\x80", "utf8"),
    "a key twice": (b"\x82\xa1a\x01\xa1a\x02", "duplicate"),
    "a key twice, once as bin": (b"\x82\xa1a\x01\xc4\x01a\x02", "duplicate"),
    "a number as key": (b"\x81\x01\x01", "key"),
    "an array as key": (b"\x81\x90\x01", "key"),
    "a map as key": (b"\x81\x80\x01", "key"),
    "nil as key": (b"\x81\xc0\x01", "key"),
    "a bin that is not ASCII as key": (b"\x81\xc4\x01\xff\x01", "key"),
}
