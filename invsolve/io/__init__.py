"""Images as files: PNG, JPEG, WebP and TIFF, 8 and 16 bit and floating point, grey, colour and transparent."""

from invsolve.io.decode import read_image
from invsolve.io.encode import LONGEST, check_target, encode_image, write_files, write_image
from invsolve.io.header import MAX_PIXELS, SUFFIXES, Header, read_header
from invsolve.io.image import Image

__all__ = [
    "LONGEST",
    "MAX_PIXELS",
    "SUFFIXES",
    "Header",
    "Image",
    "check_target",
    "encode_image",
    "read_header",
    "read_image",
    "write_files",
    "write_image",
]
