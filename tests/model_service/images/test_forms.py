"""multipart/form-data, as browsers and curl send it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.errors import RequestRefused
from model_service.images.forms import read_form
from tests.model_service.images.files import BOUNDARY, FORM_TYPE, form


def test_files_and_fields_are_told_apart() -> None:
    """A part with a file name is a file, in its order; another is a field."""
    body = form(("a", "1.png", b"\r\n--one\r\n"), ("top_k", None, b"3"), ("a", "2.png", b"\x00\xff"), ("b", "", b""))

    read = read_form(body, FORM_TYPE, max_files=3)

    assert ([b"\r\n--one\r\n", b"\x00\xff", b""], {"top_k": b"3"}) == (read.files, read.fields)


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (form(), "multipart/form-data", "has no boundary"),
        (form(("a", "b", b"c")), "multipart/form-data; boundary=other", "is no multipart/form-data"),
        (form(("a", "b", b"c"))[:-10], FORM_TYPE, "its last boundary is missing"),
        (b"", FORM_TYPE, "its last boundary is missing"),
        (b"no form at all", FORM_TYPE, "is no multipart/form-data"),
        (form(*[("a", "b", b"c")] * 3), FORM_TYPE, "at most 2 files"),
        (form(*[(f"f{n}", None, b"c") for n in range(17)]), FORM_TYPE, "16 fields"),
        (f"--{BOUNDARY}\r\nX: 1\r\n\r\nc\r\n--{BOUNDARY}--\r\n".encode(), FORM_TYPE, "no Content-Disposition"),
        (f"--{BOUNDARY}\r\nX: {'x' * 9999}\r\n\r\nc\r\n--{BOUNDARY}--\r\n".encode(), FORM_TYPE, "is no multipart"),
        (form(), f"multipart/form-data; boundary={'x' * 300}", "is no multipart/form-data"),
    ],
)
def test_a_form_that_is_none_is_refused(body: bytes, content_type: str, words: str) -> None:
    """400, and why."""
    with pytest.raises(RequestRefused) as caught:
        read_form(body, content_type, max_files=2)

    assert 400 == caught.value.status
    assert words in caught.value.message


def outcome(body: bytes, content_type: str) -> str | int:
    """A form, or the status of a refusal; whatever else is raised, is."""
    try:
        read_form(body, content_type, max_files=4)
    except RequestRefused as error:
        return error.status
    return "a form"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 250), st.sampled_from([FORM_TYPE, "multipart/form-data; boundary=\xe9"]))
def test_random_bytes_never_break_the_reader(noise: bytes, place: int, content_type: str) -> None:
    """A form, or a refusal."""
    whole = form(("a", "b.png", b"content"))

    assert outcome(whole[:place] + noise + whole[place:], content_type) in ("a form", 400)
