"""Image files: read and write them with Pillow, tifffile and imagecodecs, including metadata."""

from invsolve.io.decode import read_image
from invsolve.io.encode import LONGEST, check_target, encode_image, write_files, write_image
from invsolve.io.header import MAX_PIXELS, READABLE, SUFFIXES, Header, page_count, read_header
from invsolve.io.image import Image
from invsolve.io.metadata import Metadata

__all__ = [
    "LONGEST",
    "MAX_PIXELS",
    "READABLE",
    "SUFFIXES",
    "Header",
    "Image",
    "Metadata",
    "check_target",
    "encode_image",
    "page_count",
    "read_header",
    "read_image",
    "write_files",
    "write_image",
]
