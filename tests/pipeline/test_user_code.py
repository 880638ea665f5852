"""service.py is read before it is shipped."""

from pathlib import Path

import pytest

from pipeline.building.context import build_context
from pipeline.building.user_code import check_user_code
from pipeline.config import Config
from pipeline.errors import ConfigError
from tests.pipeline.conftest import SERVICE


def test_a_syntax_error_ends_the_build_at_once(config: Config, project: Path) -> None:
    """File, line and Python's own message, with exit code 2, before there is an image."""
    (project / "service.py").write_text("\nx = (\n")

    with pytest.raises(ConfigError) as caught:
        build_context(config, SERVICE)

    assert (2, "service.py, line 2: '(' was never closed.") == (caught.value.exit_code, caught.value.what)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def postproces(outputs): ...", "line 1: the server never calls `postproces`; did you mean `postprocess`"),
        (
            "def startup(): ...\ndef pre_process(): ...",
            "line 2: the server never calls `pre_process`; did you mean `pr",
        ),
        ("async def start_up(): ...", "never calls `start_up`; did you mean `startup`"),
        ("def process(): ...", "service.py defines none of startup, preprocess, postprocess"),
        ("class Model:\n    def preprocess(self): ...", "defines none of startup, preprocess, postprocess"),
        ("# nothing yet\n", "defines none of startup, preprocess, postprocess"),
        ("x = '\0'", "source code string cannot contain null bytes"),
    ],
)
def test_what_the_server_would_not_call_is_refused(tmp_path: Path, code: str, words: str) -> None:
    """A misspelt hook would go live silently: it is named with the hook that was meant."""
    (tmp_path / "service.py").write_text(code)

    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        check_user_code(tmp_path / "service.py")


@pytest.mark.parametrize(
    "code",
    [
        "def preprocess(request, content_type): ...\ndef preprocess_one(row): ...\ndef _postprocess(): ...",
        "from helpers import read as preprocess",
        "from helpers import *",
        "import functools\npostprocess = functools.partial(print)",
        "try:\n    import torch\nexcept ImportError:\n    def startup(): ...",
    ],
)
def test_every_way_to_define_a_hook_is_taken(tmp_path: Path, code: str) -> None:
    """A hook may be imported or assigned; helpers beside it may have names like it."""
    (tmp_path / "service.py").write_text(code)

    check_user_code(tmp_path / "service.py")
