"""The documentation holds: what is generated is fresh, every link leads somewhere, every command can be typed."""

import re
import runpy
import unicodedata
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from tests.pipeline.test_commands import commands, mentions, unknown

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.name != "commands.md"]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?:^|\$\(|\||;|&&|-- )\s*(onnxship [^\n|;&)#]*)", re.MULTILINE)


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    """docs/generate.py, which is a script and not a module."""
    return runpy.run_path(str(DOCS / "generate.py"))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code, whose lines may look like headings and links."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {slug(title) for title in titles}


def slug(title: str) -> str:
    kept = (c for c in title.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def dead_links(page: Path, text: str) -> list[str]:
    """The relative links of a page's text that lead to no file, or to no heading of one."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    dead = []
    for target in targets:
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (fragment and fragment not in anchors(found)):
            dead.append(target)
    return dead


def calls(text: str) -> list[str]:
    """Every `onnxship ...` that a page's blocks of shell would run."""
    blocks = [body for language, body in FENCE.findall(text) if language in ("", "sh")]
    return [call.strip().rstrip("\"'") for body in blocks for call in CALL.findall(body.replace("\\\n", " "))]


def test_what_is_generated_is_fresh(generator: dict[str, Any]) -> None:
    """The pages say what the code says; `python docs/generate.py` writes them anew."""
    stale = [path for path, text in generator["pages"]().items() if (DOCS / path).read_text() != text]

    assert [] == stale, "run `python docs/generate.py`"


def test_every_command_is_in_the_reference() -> None:
    """No command is without its section."""
    titles = re.findall(r"^## (.+)$", (DOCS / "reference/commands.md").read_text(), re.MULTILINE)

    assert sorted(commands()) == sorted(titles)


def test_every_limit_of_the_rehearsal_is_told(generator: dict[str, Any]) -> None:
    """What a rehearsal's report says that it does not show, the explanation says too, and nothing else."""
    page = (DOCS / "explanation/rehearsal.md").read_text()
    told = page.partition(generator["BEGIN"])[2].partition(generator["END"])[0]

    assert [f"- {sentence}" for sentence in generator["limits"]()] == [x for x in told.splitlines() if x]


def test_every_open_question_is_told() -> None:
    """Name, default and other readings stand in the explanation as `--assume` takes them."""
    from rehearsal.ecs.questions import OpenQuestions

    def readings(name: str, kind: Any) -> tuple[str, str, str]:
        default = getattr(OpenQuestions(), name)
        said = str(default).lower() if kind is bool else str(default)
        every = ("true", "false") if kind is bool else get_args(kind) or ("a number",)
        return name, said, ", ".join(value for value in every if value != said)

    page = (DOCS / "explanation/rehearsal.md").read_text()
    told = [
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")[:3])
        for line in page.partition("| name | default | or |")[2].partition("\n\n")[0].splitlines()[2:]
    ]

    assert [readings(name, kind) for name, kind in get_type_hints(OpenQuestions).items()] == told


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings that a page refers to exist."""
    assert [] == dead_links(page, prose(page))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """Commands in backquotes and in blocks of shell can be typed, with the options they have there."""
    text = page.read_text()
    named = [*mentions(prose(page)), *calls(text)]

    assert [] == [problem for mention in named if (problem := unknown(mention))]


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page."""
    links = re.findall(r"\]\(([^)#]+)", (DOCS / "README.md").read_text())
    linked = {(DOCS / link).resolve() for link in links}

    assert [] == [name_of(page) for page in DOCS.rglob("*.md") if page not in linked and page != DOCS / "README.md"]


def test_every_exit_code_is_explained() -> None:
    """README and the page on refusals know the same exit codes, and those of every error."""
    from pipeline import errors

    def rows(page: Path) -> set[int]:
        section = page.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
        return {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}

    raised = {kind.exit_code for kind in errors.PipelineError.__subclasses__()}

    assert rows(ROOT / "README.md") - {0} == rows(DOCS / "how-to/read-a-refusal.md")
    assert raised <= rows(ROOT / "README.md")


def test_the_example_of_own_code_does_what_it_says(tmp_path: Path) -> None:
    """service.py of the how-to passes the build's check, and takes CSV and the load test's JSON alike."""
    from pipeline.building.user_code import check_user_code

    language, source = FENCE.findall((DOCS / "how-to/own-code.md").read_text())[0]
    (tmp_path / "service.py").write_text(source)
    check_user_code(tmp_path / "service.py")
    code = runpy.run_path(str(tmp_path / "service.py"))

    rows = [
        code["preprocess"](b"1,2\n", "text/csv")["X"],
        code["preprocess"](b'{"input": [1, 2]}', "application/json")["X"],
    ]

    assert "python" == language
    assert [[[1.0, 2.0]], [[1.0, 2.0]]] == [array.tolist() for array in rows]
    assert [np.float32] * 2 == [array.dtype for array in rows]
    assert {"classes": [1]} == code["postprocess"]({"label": np.array([1])})


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """A dead file, a dead heading, a command that does not exist: each is found."""
    page = tmp_path / "page.md"
    page.write_text('# One heading: `x`\n\n```sh\nonnxship frob --now\neval "$(onnxship rehearse env)"\n```\n')

    assert {"one-heading-x"} == anchors(page)
    assert ["gone.md", "#two"] == dead_links(page, "[a](gone.md) [b](#two) [c](#one-heading-x) [d](https://x.y)")
    assert ["onnxship frob --now", "onnxship rehearse env"] == calls(page.read_text())
    assert "there is no `onnxship frob --now`" == unknown(calls(page.read_text())[0])
