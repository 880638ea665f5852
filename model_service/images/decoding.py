"""From the bytes of a file to pixels: only known formats, only so many pixels, upright, in one colour model.

The recipe is that of `load_image` in transformers, which is torchvision's `ImageFolder` and EXIF: the first frame,
turned as its EXIF orientation says, then Pillow's `convert`. So alpha is dropped and not composited, CMYK is converted
without profiles, embedded ICC profiles are ignored. 16-bit grey keeps its high byte, as Pillow has it for 16-bit RGB.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import (
    ExifTags,
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401 - with `formats` given, Pillow itself loads the other four only
)

from model_service.errors import RequestRefused

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif")
MODES = {"RGB": "RGB", "BGR": "RGB", "L": "L"}

# A progressive JPEG has about ten scans, each over all pixels. Empty ones of 40 bytes would keep a thread for hours:
# https://bugzilla.redhat.com/show_bug.cgi?id=1344214
MAX_SCANS = 50
START_OF_SCAN = b"\xff\xda"  # never in a scan's own data, where an 0xff is followed by 0x00

# By the tag's value, as in `PIL.ImageOps.exif_transpose`; that also writes the whole EXIF anew, which nobody would see
# here, and which fails for odd files that every other reader shows.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of what a file holds, in words that the file can vary: that is for the caller, who gets an error, and
# not for this process's stderr and its registry of warnings. Its limit of pixels is checked here, by our own number.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(content: bytes, color: str, *, max_pixels: int, what: str = "the image") -> Image.Image:
    """The image in `content`, as RGB (for BGR too) or L. Raises RequestRefused: 400, 413 or 415."""
    if not content:
        raise RequestRefused(400, f"{what} is empty")
    with _refusing_what_is_broken(what, max_pixels), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        check_pixels(image.size, max_pixels, what)
        _check_scans(image, content, what)
        image.load()
        return _in_mode(_upright(image), MODES[color])


def check_pixels(size: tuple[int, int], max_pixels: int, what: str) -> None:
    """Raise RequestRefused(413) for more pixels than may be in memory; `size` is Pillow's (width, height)."""
    width, height = size
    if width * height > max_pixels:
        raise RequestRefused(413, f"{what} has {width} x {height} pixels; at most {max_pixels} are taken")


def _check_scans(image: Image.Image, content: bytes, what: str) -> None:
    if image.format in ("JPEG", "MPO") and content.count(START_OF_SCAN) > MAX_SCANS:
        raise RequestRefused(400, f"{what} is a JPEG of more than {MAX_SCANS} scans")


def _upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # whose `convert` clips at 255: nearly every image would come out white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _refusing_what_is_broken(what: str, max_pixels: int) -> Iterator[None]:
    """Pillow's errors as the caller's, without Pillow's words: those may hold addresses and what the file says."""
    try:
        yield
    except (RequestRefused, MemoryError):
        raise
    except UnidentifiedImageError as error:
        # 415 is for what the content itself shows, too: https://www.rfc-editor.org/rfc/rfc9110#name-415-unsupported-media-type
        raise RequestRefused(415, f"{what} is none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise RequestRefused(413, f"{what} has too many pixels; at most {max_pixels} are taken") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file makes them stumble over
        raise RequestRefused(400, f"{what} is broken or truncated: it cannot be decoded") from error
