"""The user's own code: `service.py` in the working directory, with any of three functions that /predict uses.

    startup() -> None                                            once, before the service is ready
    preprocess(request: bytes, content_type: str) -> dict[str, numpy.ndarray]    the body, to the model's inputs
    postprocess(outputs: dict[str, numpy.ndarray]) -> dict       the model's outputs, to the answer

They run in worker threads, several at once. What they raise ends the start or the request, and never the thread: also
what is no Exception, like that of `sys.exit()` or of a panic in a library written in Rust.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from model_service.errors import StartRefused, UserCodeFailed
from model_service.tensors import Array

FILE_NAME = "service.py"
HOOKS = ("startup", "preprocess", "postprocess")
SIMILARITY = 0.85  # difflib's ratio; `preprocess` and `postprocess` themselves are 0.76 alike

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UserCode:
    """The functions that service.py defines; what it does not define is None."""

    startup: Callable[[], None] | None = None
    preprocess: Callable[[bytes, str], dict[str, Array]] | None = None
    postprocess: Callable[[dict[str, Array]], dict[str, Any]] | None = None


def load_user_code(directory: Path) -> UserCode:
    """The functions of `directory`/service.py, none without one.

    Raises StartRefused if it cannot be imported or has none of the three; warns of a name that is almost one of them.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return UserCode()
    module = _import(path)
    functions = {name: getattr(module, name, None) for name in HOOKS}
    similar = _similar_names(module)
    if all(function is None for function in functions.values()):
        raise StartRefused(
            f"{FILE_NAME} defines none of {', '.join(HOOKS)}" + "".join(f"; {words}" for words in similar)
        )
    for words in similar:
        logger.warning("%s: %s", FILE_NAME, words)
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise StartRefused(f"{FILE_NAME}: `{name}` is not a function")
    return UserCode(**functions)


def call_startup(user_code: UserCode) -> None:
    """Run the user's startup(), if there is one. Raises StartRefused when it raises."""
    if user_code.startup is None:
        return
    try:
        user_code.startup()
    except BaseException as error:
        raise StartRefused(f"{FILE_NAME} startup failed: {type(error).__name__}: {error}") from error


def call_preprocess(
    preprocess: Callable[[bytes, str], dict[str, Array]], body: bytes, content_type: str
) -> dict[str, Array]:
    """What the user's preprocess made of the body. Raises UserCodeFailed."""
    try:
        inputs = preprocess(body, content_type)
    except BaseException as error:
        raise UserCodeFailed(f"{FILE_NAME} preprocess failed: {type(error).__name__}", error) from error
    if not isinstance(inputs, Mapping) or not all(isinstance(array, np.ndarray) for array in inputs.values()):
        raise UserCodeFailed(f"{FILE_NAME} preprocess did not return a dict of numpy arrays")
    return dict(inputs)


def call_postprocess(
    postprocess: Callable[[dict[str, Array]], dict[str, Any]], outputs: dict[str, Array]
) -> dict[str, Any]:
    """What the user's postprocess made of the outputs. Raises UserCodeFailed."""
    try:
        answer = postprocess(outputs)
    except BaseException as error:
        raise UserCodeFailed(f"{FILE_NAME} postprocess failed: {type(error).__name__}", error) from error
    if not isinstance(answer, Mapping):
        raise UserCodeFailed(f"{FILE_NAME} postprocess did not return a dict")
    return dict(answer)


def _similar_names(module: ModuleType) -> list[str]:
    """In words, the module's own functions that are called almost as one of the hooks that it lacks."""
    missing = [name for name in HOOKS if not hasattr(module, name)]
    own = [name for name, value in vars(module).items() if isinstance(value, FunctionType) and name not in HOOKS]
    return [
        f"`{name}` is not called: did you mean `{close[0]}`?"
        for name in own
        if not name.startswith("_") and (close := get_close_matches(name, missing, 1, SIMILARITY))
    ]


def _import(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:  # for the Python files beside it
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise StartRefused(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:  # which names file and line itself; a stack of the import would add nothing
        raise StartRefused(f"{FILE_NAME} cannot be imported: {type(error).__name__}: {error}") from None
    except BaseException as error:
        raise StartRefused(f"{FILE_NAME} cannot be imported: {type(error).__name__}: {error}") from error
    return module
