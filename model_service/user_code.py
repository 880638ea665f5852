"""The user's own code: `service.py` in the working directory, with any of three functions that /predict uses.

    startup() -> None                                            once, before the service is ready
    preprocess(request: bytes, content_type: str) -> dict[str, numpy.ndarray]    the body, to the model's inputs
    postprocess(outputs: dict[str, numpy.ndarray]) -> dict       the model's outputs, to the answer

They run in worker threads, several at once. What they raise ends the start or the request, and never the thread: also
what is no Exception, like that of `sys.exit()` or of a panic in a library written in Rust.

What a caller did wrong is told by `raise model_service.BadRequest("age must be positive")`: a 400 with this text. So is
a body that preprocess could not decode; every other exception is a fault of service.py, a 500.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from json import JSONDecodeError
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from model_service import BadRequest
from model_service.errors import RequestRefused, StartRefused, UserCodeFailed
from model_service.tensors import Array

FILE_NAME = "service.py"
# Each with what it is called with.
HOOKS = {"startup": (), "preprocess": ("request", "content_type"), "postprocess": ("outputs",)}
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

    Raises StartRefused if it cannot be imported, has none of the three, or one that cannot be called as they are; warns
    of a name that is almost one of them.
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
        if function is not None:
            _check_signature(name, function)
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
    """What the user's preprocess made of the body. Raises RequestRefused(400) for the body's faults, else
    UserCodeFailed."""
    try:
        inputs = preprocess(body, content_type)
    except BadRequest as error:
        raise _bad_request(error) from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        if _is_of(error, body):
            raise RequestRefused(400, f"the body cannot be read: {error}") from error
        raise UserCodeFailed(f"{FILE_NAME} preprocess failed: {type(error).__name__}", error) from error
    except BaseException as error:
        raise UserCodeFailed(f"{FILE_NAME} preprocess failed: {type(error).__name__}", error) from error
    if not isinstance(inputs, Mapping) or not all(isinstance(array, np.ndarray) for array in inputs.values()):
        raise UserCodeFailed(f"{FILE_NAME} preprocess did not return a dict of numpy arrays")
    return dict(inputs)


def call_postprocess(
    postprocess: Callable[[dict[str, Array]], dict[str, Any]], outputs: dict[str, Array]
) -> dict[str, Any]:
    """What the user's postprocess made of the outputs. Raises UserCodeFailed, or RequestRefused(400) for BadRequest."""
    try:
        answer = postprocess(outputs)
    except BadRequest as error:
        raise _bad_request(error) from error
    except BaseException as error:
        raise UserCodeFailed(f"{FILE_NAME} postprocess failed: {type(error).__name__}", error) from error
    if not isinstance(answer, Mapping):
        raise UserCodeFailed(f"{FILE_NAME} postprocess did not return a dict")
    return dict(answer)


def _bad_request(error: BadRequest) -> RequestRefused:
    return RequestRefused(400, str(error) or "the request cannot be answered")


def _is_of(error: JSONDecodeError | UnicodeDecodeError, body: bytes) -> bool:
    """Whether it was the body, or a part of it, that could not be decoded, and not a document of service.py's own."""
    text = bytes(error.object) if isinstance(error, UnicodeDecodeError) else error.doc.encode(errors="surrogatepass")
    return text in body if text else not body


def _check_signature(name: str, function: Any) -> None:
    """Raise StartRefused unless a worker thread can call the hook and have its result."""
    if not callable(function):
        raise StartRefused(f"{FILE_NAME}: `{name}` is not a function")
    arguments = HOOKS[name]
    call = f"{name}({', '.join(arguments)})"
    for is_kind, kind in (
        (inspect.iscoroutinefunction, "async"),
        (inspect.isasyncgenfunction, "async"),
        (inspect.isgeneratorfunction, "a generator"),
    ):
        if is_kind(function):
            raise StartRefused(
                f"{FILE_NAME}: `{name}` is {kind}; it is called in a thread, as {call}: write a plain function"
            )
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise StartRefused(f"{FILE_NAME}: `{name}` cannot be called as {call}: {error}") from None
    except ValueError:  # something compiled, which does not say what it takes
        return


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
