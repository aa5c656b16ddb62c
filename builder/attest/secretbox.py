"""NaCl's secret boxes (XSalsa20 and Poly1305), opened: cosign keeps private keys in them.

    https://nacl.cr.yp.to/secretbox.html, https://cr.yp.to/snuffle/xsalsa-20110204.pdf

A few hundred bytes are all that is ever opened here. The library for Poly1305 is `cryptography`; XSalsa20 it
lacks, and that is some thirty lines, held to the vectors of NaCl's own tests.
"""

from __future__ import annotations

import struct

SIGMA = b"expand 32-byte k"
KEY, NONCE, TAG = 32, 24, 16  # bytes
MASK = 0xFFFFFFFF
# The words that each quarter-round works on: columns, then rows.
ROUNDS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip
STEPS = ((1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18))


class NotOpened(ValueError):
    """The box was not closed with this key, or is damaged."""


def open_box(box: bytes, nonce: bytes, key: bytes) -> bytes:
    """What is in a box. Raises NotOpened."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    if len(nonce) != NONCE or len(key) != KEY or len(box) < TAG:
        raise NotOpened("a box, its nonce or its key has a wrong size")
    tag, closed = box[:TAG], box[TAG:]
    stream = _stream(key, nonce, KEY + len(closed))
    try:
        Poly1305.verify_tag(stream[:KEY], closed, tag)
    except InvalidSignature as error:
        raise NotOpened("the box was not closed with this key") from error
    return bytes(one ^ other for one, other in zip(closed, stream[KEY:], strict=True))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    """So many bytes of XSalsa20: Salsa20 under the key that HSalsa20 makes of the nonce's beginning."""
    words = _rounds(_state(key, nonce[:16]))
    inner = struct.pack("<8I", *(words[n] for n in (0, 5, 10, 15, 6, 7, 8, 9)))
    blocks = []
    for number in range((size + 63) // 64):
        state = _state(inner, nonce[16:] + struct.pack("<Q", number))
        mixed = _rounds(state)
        blocks.append(struct.pack("<16I", *((a + b) & MASK for a, b in zip(state, mixed, strict=True))))
    return b"".join(blocks)[:size]


def _state(key: bytes, middle: bytes) -> list[int]:
    sigma = struct.unpack("<4I", SIGMA)
    keys = struct.unpack("<8I", key)
    inside = struct.unpack("<4I", middle)
    return [sigma[0], *keys[:4], sigma[1], *inside, sigma[2], *keys[4:], sigma[3]]


def _rounds(state: list[int]) -> list[int]:
    """Twenty rounds of Salsa20, without the addition at the end."""
    words = list(state)
    for _ in range(10):
        for quarter in ROUNDS:
            for target, one, other, turn in STEPS:
                total = (words[quarter[one]] + words[quarter[other]]) & MASK
                words[quarter[target]] ^= ((total << turn) | (total >> (32 - turn))) & MASK
    return words
