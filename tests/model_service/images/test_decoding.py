"""Files to pixels: formats, colours, orientation, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model_service.errors import RequestRefused
from model_service.images.decoding import decode
from tests.model_service.images.files import bomb, encoded, noise, png

MANY = 2**25
# A picture of 3 x 2 (height x width) whose corners tell its orientation.
UPRIGHT = np.array([[10, 20], [30, 40], [50, 60]], np.uint8)


def pixels(content: bytes, color: str = "RGB") -> np.ndarray:
    return np.asarray(decode(content, color, max_pixels=MANY))


def refusal(content: bytes, max_pixels: int = MANY) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        decode(content, "RGB", max_pixels=max_pixels)
    return caught.value


def outcome(content: bytes) -> str | int:
    """The mode of an image, or the status of a refusal; whatever else is raised, is."""
    try:
        return decode(content, "RGB", max_pixels=2**20).mode
    except RequestRefused as error:
        return error.status


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_reads_every_format(kind: str) -> None:
    """Lossless files give the pixels that went in, a JPEG nearly so."""
    flat = np.full((9, 7, 3), (40, 90, 200), np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {}

    read = pixels(encoded(Image.fromarray(flat), kind, **options))

    assert (9, 7, 3) == read.shape
    assert np.abs(read.astype(int) - flat).max() <= (3 if kind == "JPEG" else 0)


def test_the_first_frame_of_an_animation_is_the_image() -> None:
    """An animated GIF is read as a still."""
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]

    assert [255, 0, 0] == pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist()


# How the stored rows and columns lie, by the tag's value: Exif 2.3, 4.6.4 A, "Orientation".
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize(("orientation", "stored"), STORED.items())
def test_a_photo_is_turned_as_its_exif_says(orientation: int, stored: np.ndarray) -> None:
    """All eight orientations give the same upright picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert UPRIGHT.tolist() == pixels(encoded(Image.fromarray(stored.copy()), exif=exif), "L").tolist()


def test_odd_exif_is_no_reason_to_refuse_a_photo() -> None:
    """Only the orientation is read of it: a resolution that calls itself a text hurts nobody."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    content = encoded(Image.fromarray(noise(8, 16)), "JPEG", exif=exif)
    rational, text = b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02"  # the tag, and the type of its value

    odd = content.replace(rational, text)

    assert odd != content
    assert (16, 8, 3) == pixels(odd).shape


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    """And is not cut off at 255, which would make nearly all of it white."""
    deep = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], np.uint16)

    assert [0, 0, 1, 127, 255] == pixels(png(deep), "L")[0].tolist()
    assert [0, 0, 1, 127, 255] == pixels(png(deep))[0, :, 2].tolist()


def test_alpha_is_dropped() -> None:
    """What lies under a transparent pixel shows, as in the data that models are trained with."""
    assert [10, 20, 30] == pixels(encoded(Image.new("RGBA", (2, 2), (10, 20, 30, 0))))[0, 0].tolist()


def test_palettes_with_transparency_are_read_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Pillow's warning of them is for who saves such files."""
    palette = Image.new("RGB", (2, 2), (200, 100, 0)).convert("P", palette=Image.Palette.ADAPTIVE)

    assert [200, 100, 0] == pixels(encoded(palette, transparency=b"\x80\x00"))[0, 0].tolist()


@pytest.mark.parametrize(
    ("cmyk", "rgb"), [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_cmyk_is_converted(cmyk: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    """A JPEG from print work is no negative."""
    read = pixels(encoded(Image.new("CMYK", (8, 8), cmyk), "JPEG", quality=100))

    assert np.abs(read[0, 0].astype(int) - rgb).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize(("color", "shape"), [("RGB", (4, 4, 3)), ("BGR", (4, 4, 3)), ("L", (4, 4))])
def test_every_mode_of_a_png_becomes_what_is_asked_for(mode: str, color: str, shape: tuple[int, ...]) -> None:
    """White stays white."""
    read = pixels(encoded(Image.new("RGB", (4, 4), "white").convert(mode)), color)

    assert (shape, {255}) == (read.shape, set(read.ravel().tolist()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file_is_refused(kind: str, part: float) -> None:
    """Half a picture is not guessed at."""
    content = encoded(Image.fromarray(noise(64, 64)), kind)

    assert 400 == refusal(content[: int(len(content) * part)]).status


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x00" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>", encoded(Image.new("L", (2, 2)), "TIFF")],
)
def test_what_is_no_known_format_is_unsupported(content: bytes) -> None:
    """By its content, whatever it is called: TIFF, SVG, text."""
    assert (415, "the image is none of JPEG, PNG, WEBP, BMP, GIF") == (
        refusal(content).status,
        refusal(content).message,
    )


@pytest.mark.parametrize(
    ("side", "words"), [(8_000, "has 8000 x 8000 pixels"), (20_000, "has too many pixels")], ids=["ours", "Pillow's"]
)
def test_a_bomb_is_refused_by_its_header(side: int, words: str) -> None:
    """A file of a few kilobytes that would fill the memory is never decoded."""
    content = bomb(side, side)

    assert len(content) < 60_000
    assert (413, f"the image {words}; at most 33554432 are taken") == (
        refusal(content).status,
        refusal(content).message,
    )


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Each would be decoded over the whole picture; a progressive one as cameras save it has some ten."""
    progressive = encoded(Image.fromarray(noise(16, 16)), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]

    assert 1 < progressive.count(b"\xff\xda") < 20
    assert (16, 16, 3) == pixels(progressive).shape
    assert (400, "the image is a JPEG of more than 50 scans") == (
        refusal(progressive[:-2] + scan * 100 + b"\xff\xd9").status,
        refusal(progressive[:-2] + scan * 100 + b"\xff\xd9").message,
    )


def test_just_as_many_pixels_as_allowed_pass() -> None:
    """The limit is exact."""
    content = png(noise(10, 10))

    assert (10, 10) == decode(content, "RGB", max_pixels=100).size
    assert 413 == refusal(content, max_pixels=99).status


SEEDS = [
    encoded(Image.fromarray(noise(12, 9)), kind, **options)
    for kind, options in [("PNG", {}), ("JPEG", {"exif": Image.Exif()}), ("WEBP", {}), ("BMP", {}), ("GIF", {})]
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12))
def test_a_damaged_file_is_an_image_or_a_refusal(seed: bytes, damage: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed, the caller is told; nothing else is raised."""
    content = bytearray(seed)
    for place, value in damage:
        content[place % len(content)] = value
    assert outcome(bytes(content)) in ("RGB", 400, 413, 415)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\0\0\0WEBPVP8X", b"BM", b"GIF89a"]),
    st.binary(max_size=300),
)
def test_random_bytes_are_refused(magic: bytes, rest: bytes) -> None:
    """Also behind the first bytes of a real format."""
    assert outcome(magic + rest) in ("RGB", 400, 413, 415)
