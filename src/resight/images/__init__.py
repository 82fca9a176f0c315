"""Pictures: from bytes to uint8 pixels (``decode``), and from any size to the network's square
(``Geometry``).
"""

from __future__ import annotations

from resight.images.bands import MAX_CHANNELS, check_channels, fit, shown_as, visible
from resight.images.decode import (
    ImageInfo,
    decode,
    decode_for,
    decode_small,
    decode_with_info,
    decoder_versions,
    probe,
    read_bytes,
    verify,
)
from resight.images.exif import Shot, find_shot
from resight.images.formats import EXTENSIONS, FORMATS, UNSUPPORTED_EXTENSIONS, extension_matches
from resight.images.geometry import Geometry, center_crop, resize, resize_short
from resight.images.limits import MAX_BYTES, MAX_PIXELS, MAX_TILED_PIXELS, check_bytes, check_pixels
from resight.images.printable import printable
from resight.images.tiles import cut, tile_boxes, tiles_of, windows_of

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_BYTES",
    "MAX_CHANNELS",
    "MAX_PIXELS",
    "MAX_TILED_PIXELS",
    "UNSUPPORTED_EXTENSIONS",
    "Geometry",
    "ImageInfo",
    "Shot",
    "center_crop",
    "check_bytes",
    "check_channels",
    "check_pixels",
    "cut",
    "decode",
    "decode_for",
    "decode_small",
    "decode_with_info",
    "decoder_versions",
    "extension_matches",
    "find_shot",
    "fit",
    "printable",
    "probe",
    "read_bytes",
    "resize",
    "resize_short",
    "shown_as",
    "tile_boxes",
    "tiles_of",
    "verify",
    "visible",
    "windows_of",
]
