"""The demo's page says what its report says, fetches nothing, and survives whatever a story leaves."""

import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from demo import charts, page
from tests.demo.sample_report import sample

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """A page taken apart: every tag with its attributes, the text, and whether what was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def broken() -> dict[str, Any]:
    """A report of a story that ended with its first command."""
    report = sample()
    report |= {"ok": False, "releases": [], "traffic": {}, "billing": {}, "steps": report["steps"][:1]}
    report["steps"][0] |= {"ok": False, "exit_code": 6}
    return report | {"problems": ["`onnxship rehearse up` ended with exit code 6, not 0"],
                     "seconds_per_aws_minute": None, "not_rehearsed": [], "recorded_only": []}  # fmt: skip


def many(releases: int) -> dict[str, Any]:
    """A report in which that many releases had users, a second each."""
    report = sample()
    names = [f"r{number}" for number in range(releases)]
    report["traffic"]["weights"] = [{"at_s": 50.0 + i, "shares": {name: 100.0}} for i, name in enumerate(names)]
    report["traffic"]["by_release"] = dict.fromkeys(names, 40)
    report["traffic"]["timeline"] = [
        {"second": i, "by_release": {name: 40}, "failed": 0, "p50_ms": 2.0, "p99_ms": 9.0,
         "latency_ms": {name: {"p50": 2.0, "p99": 9.0}}}
        for i, name in enumerate(names)
    ]  # fmt: skip
    return report


def drawings(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_the_page_is_written_whole_and_closed(tmp_path: Path) -> None:
    """One file, in which every tag that was opened is closed where it should be."""
    page.write(sample(), tmp_path / "report.html")

    html = (tmp_path / "report.html").read_text()
    assert [] == Page(html).unbalanced
    assert html.rstrip().endswith("</html>")


def test_the_page_is_written_again_from_its_report(tmp_path: Path) -> None:
    """`python -m demo.page REPORT.json OUT.html` gives the very page that the demo wrote."""
    (tmp_path / "report.json").write_text(json.dumps(sample()))
    command = [sys.executable, "-m", "demo.page", tmp_path / "report.json", tmp_path / "again.html"]
    subprocess.run(command, cwd=Path(page.__file__).parents[1], check=True)

    assert page.render(sample()) == (tmp_path / "again.html").read_text()


def test_nothing_is_fetched_from_elsewhere() -> None:
    """No address in src, href or url(), no @import and no script: the page reads the same without a network."""
    html = page.render(sample())
    parsed = Page(html)
    addresses = [value for _, given in parsed.tags for name, value in given.items() if name in ("src", "href")]

    assert [] == [address for address in addresses if not str(address).startswith(("#", "data:,"))]
    assert 0 == parsed.count("script")
    assert [] == re.findall(r"url\(|@import", html)


def test_links_within_the_page_lead_somewhere() -> None:
    """Every link of the page's list has its section, and no id is given twice."""
    tags = Page(page.render(sample())).tags
    ids = [given["id"] for _, given in tags if "id" in given]
    wanted = {str(given["href"])[1:] for tag, given in tags if tag == "a"}

    assert sorted(set(ids), key=str) == sorted(ids, key=str)
    assert set() == wanted - set(ids)


def test_what_a_release_says_of_itself_is_never_markup() -> None:
    """A reason, fault, name, command, problem or message with tags in it is shown, not obeyed."""
    report, nasty = sample(), "<script>alert(1)</script><b a='\""
    for release in report["releases"]:
        release |= {"id": nasty + release["id"], "reason": nasty, "fault": nasty}
    report["steps"][0] |= {"name": nasty, "command": nasty}
    report["billing"]["message"] = report["problems"] = report["not_rehearsed"] = [nasty]
    report["traffic"]["weights"][0]["shares"] = {nasty: 100}
    report["traffic"]["failures"] = {nasty: 1}
    html = page.render(report)
    parsed = Page(html)

    assert (0, 0) == (parsed.count("script"), parsed.count("b"))
    assert [] == parsed.unbalanced
    assert nasty in parsed.text
    assert 9 == len(drawings(html))


def test_every_bad_release_is_there_with_its_reason_and_count() -> None:
    """Each card has the fault, what stopped it, its exit code, the requests that reached it, its reason verbatim."""
    report = sample()
    html = page.render(report)
    cards = {
        re.findall(r"<h3>(.*?)</h3>", card)[0]: unescape(card)
        for card in re.findall(r'<article class="card">.*?</article>', html, re.DOTALL)
    }
    bad = [release for release in report["releases"] if release["kind"] == "bad"]

    assert [release["id"] for release in bad] == list(cards)
    for release in bad:
        card = cards[release["id"]]
        assert f"<pre>{release['reason']}</pre>" in card
        assert f"exit code {release['exit_code']}<" in card
        assert page.sentence(release["fault"]) in card
        assert page.GATE_WORDS[release["gate"]] in card
        assert f"{release['duration_s']:.1f} s" in card
        requests = release["production_requests"]
        assert ("<dd>0</dd>" if requests == 0 else f"<strong>{requests}</strong>, of which 51 failed") in card


def test_a_gates_numbers_have_units_and_stand_side_by_side() -> None:
    """What both releases were measured by stands in one line, with the ratio and what chance may do to it."""
    numbers = next(release for release in sample()["releases"] if release["id"] == "slow")["gates"][1]["numbers"]
    lines = {measured.name: measured for measured in page.side_by_side(numbers)}

    assert ("38.4 ms", "") == (lines["p99"].green, lines["p99"].blue)
    assert ("91.2 ms", "6.4 ms") == (
        lines["median (p50), side by side"].green,
        lines["median (p50), side by side"].blue,
    )
    assert "× 14.2; with noise × 12.9 to 15.6" == lines["median (p50), side by side"].ratio
    assert ("60", "60") == (lines["requests, side by side"].green, lines["requests, side by side"].blue)
    assert ("187", "") == (lines["requests"].green, lines["requests"].blue)
    assert [] == [name for name in lines if "ratio low" in name or "live" in name or "new" in name]


def test_numbers_stand_in_the_same_order_however_they_were_kept() -> None:
    """A release that was refused is read from its record, where keys are sorted; its table is like the others."""
    numbers = next(release for release in sample()["releases"] if release["id"] == "slow")["gates"][1]["numbers"]
    names = [measured.name for measured in page.side_by_side(dict(sorted(numbers.items())))]

    assert names == [measured.name for measured in page.side_by_side(numbers)]
    assert ["requests", "failures", "requests a second", "median (p50)", "p95", "p99"] == names[:6]


def test_every_number_of_every_gate_is_on_the_page() -> None:
    """No figure that a verdict rests on is left out."""
    report = sample()
    text = Page(page.render(report)).text
    numbers = [gate["numbers"] for release in report["releases"] for gate in release["gates"]]

    assert [] == [value for found in numbers for value in found.values() if page.number(value) not in text]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (0.0, "0"), (187, "187"), (12345, "12,345"), (12345.6, "12,346"), (31.167, "31.2"), (300.0, "300"),
        (1.031, "1.03"), (2.98e-08, "3.0 × 10⁻⁸"), (-0.0004, "-4.0 × 10⁻⁴"), ("none", "none"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(value: Any, words: str) -> None:
    """Few figures, thousands apart, powers of ten for what is very small."""
    assert words == page.number(value)


def test_drawings_are_well_formed_and_say_what_they_show() -> None:
    """Three charts, each for three widths, each with a title and a description for those who cannot see it."""
    found = drawings(page.render(sample()))

    assert 9 == len(found)
    for drawing in found:
        assert ["title", "desc"] == [child.tag.rpartition("}")[2] for child in drawing[:2]]
        assert all(child.text for child in drawing[:2])


def test_nothing_is_drawn_outside_its_drawing() -> None:
    """Bars, areas and labels stand within the width, at each of the three widths."""
    for drawing in drawings(page.render(sample())):
        width = float(drawing.attrib["viewBox"].split()[2])
        boxes = [e.attrib for e in drawing.iter() if e.tag.endswith("rect")]
        assert boxes
        assert [] == [box for box in boxes if float(box["x"]) < 0 or float(box["x"]) + float(box["width"]) > width]
        assert [] == [e.text for e in drawing.iter() if "x" in e.attrib and not 0 <= float(e.attrib["x"]) <= width]


def test_a_story_that_broke_early_is_told_as_far_as_it_came() -> None:
    """Without releases, users or a bill the page says so, and leads with the problem."""
    parsed = Page(page.render(broken()))

    assert [] == parsed.unbalanced
    assert "The story did not end as told." in parsed.text
    assert "`onnxship rehearse up` ended with exit code 6, not 0" in parsed.text
    assert "The story ended before the answers that users got were counted." in parsed.text
    assert "was shipped" not in parsed.text.partition("Timeline")[0]
    assert "The story ended before a bill was made up." in parsed.text
    assert "exit 6, expected 0" in parsed.text
    assert "None" not in parsed.text


def test_requests_that_nobody_counted_are_not_called_none() -> None:
    """A refusal in a story that was interrupted before the count says so; 0 is only what was measured."""
    report = sample() | {"traffic": {}}
    refused = [release for release in report["releases"] if release["outcome"] == "refused"]
    html = page.render(report)

    assert len(refused) == html.count("<dd>not counted</dd>")
    assert "<dd>0</dd>" not in html.partition('id="refused"')[2].partition('id="gates"')[0]


def test_a_story_without_a_single_step_has_its_page() -> None:
    """Even the time axis of nothing can be drawn."""
    parsed = Page(page.render(broken() | {"steps": []}))

    assert [] == parsed.unbalanced
    assert "No release was shipped." in parsed.text


def test_users_without_an_answer_yet_have_their_page() -> None:
    """Traffic that was started and has no second yet draws no chart."""
    report = sample()
    report["traffic"] |= {"requests": 0, "timeline": [], "by_release": {}, "weights": [], "shifts": [], "suffered": 0}

    assert 3 == len(drawings(page.render(report)))


def test_long_names_and_reasons_keep_the_page_in_shape() -> None:
    """A name of 400 characters is cut in the drawings and whole in the text; 3 KB of reason wrap in their box."""
    report, name, reason = sample(), "n" * 400, "no weights in arn:aws:" + "x" * 3000
    for release in report["releases"]:
        release |= {"id": name, "reason": reason}
    report["steps"][5]["name"] = name
    html = page.render(report)
    labels = [e.text or "" for drawing in drawings(html) for e in drawing.iter() if e.tag.endswith("text")]
    style = (Path(page.__file__).parent / "page.css").read_text()

    assert max(map(len, labels)) < 170
    assert f"<pre>{reason}</pre>" in html
    assert re.search(r"^pre \{[^}]*white-space: pre-wrap; overflow-wrap: anywhere", style, re.MULTILINE)


def test_more_releases_than_colours_still_differ() -> None:
    """Past the palette the colours come again with a pattern, for twice as many as anybody ships in one story."""
    names = charts.colours(many(18)["traffic"])

    assert 18 == len({names[f"r{number}"] for number in range(18)})
    assert [] == Page(page.render(many(40))).unbalanced
    style = (Path(page.__file__).parent / "page.css").read_text()
    assert [] == [name for name in ("c0", "c5", "again1", "again2", "nobody") if f".{name} " not in style]


def test_shares_of_production_are_stacked() -> None:
    """While two releases share production, the band is divided as the weights are."""
    weights = [{"at_s": 0.0, "shares": {"v1": 100.0}}, {"at_s": 10.0, "shares": {"v1": 90.0, "v2": 10.0}},
               {"at_s": 20.0, "shares": {"v2": 100.0}}]  # fmt: skip
    layout = charts.Layout("wide", 110, 0, 100.0)

    areas = [(area.release, area.left, area.top, area.height) for area in charts.band(weights, layout, 0, 30)]
    assert [("v1", 0, 0, 30), ("v1", 10, 3, 27), ("v2", 10, 0, 3), ("v2", 20, 0, 30)] == areas
    assert ["v1", "v2"] == [reign.release for reign in charts.reigns(weights, 100.0)]


def test_a_line_is_lifted_where_a_release_did_not_answer() -> None:
    """Seconds that follow each other are joined; after a gap the line begins anew."""
    timeline = [{"second": s, "latency_ms": {"v1": {"p50": 10.0}}} for s in (0, 1, 5)]
    layout, axis = charts.Layout("wide", 110, 0, 100.0), charts.Axis(0, 100, 1.0, 100.0, True, ())

    assert {"v1": "M0.5 50.0h0L1.5 50.0h0M5.5 50.0h0"} == charts.lines(timeline, 0.0, "p50", layout, axis)


def test_the_sufferers_are_marked_when_they_suffered() -> None:
    """From the first second with a failed answer of the release to the end of the last, with their number."""
    (burst,) = page.bursts(sample())

    assert (179.0, 188.0, "51 answers of late-failure failed") == (burst.starts_s, burst.ends_s, burst.words)
