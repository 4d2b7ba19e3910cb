"""Structure of a JPEG file, read without decoding it.

Source: ITU-T T.81, annex B (markers and segments).
"""

import re

from components.image_mask_example_gen.rejections import Reason

_START = b"\xff\xd8"
_END = 0xD9
_FILL = 0xFF
_START_OF_SCAN = 0xDA
# In entropy-coded data 0xff is followed by a stuffed 0x00 or a restart marker; anything else ends the scan.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)

Defect = tuple[Reason, str]


def has_signature(data: bytes) -> bool:
    """Whether this claims to be a JPEG."""
    return data.startswith(_START + b"\xff")


def find_defect(data: bytes) -> Defect | None:
    """Walks the segments and scans to the end marker; None when the structure is whole.

    Damage inside the coded pixels that leaves the structure whole is invisible here, as it is to libjpeg,
    which fills in what it cannot decode and goes on.
    """
    position = len(_START)
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return Reason.NOT_DECODABLE, f"no marker where one should be, at byte {position:,}"
        marker = data[position + 1]
        if marker == _FILL:
            position += 1
            continue
        if marker == _END:
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker != _START_OF_SCAN:
            continue
        end_of_scan = _MARKER_AFTER_SCAN.search(data, position)
        if end_of_scan is None:
            break
        position = end_of_scan.start()
    return Reason.TRUNCATED, "which end before the picture does"
