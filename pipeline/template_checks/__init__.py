"""What a CloudFormation template must hold before `deploy` sends it to AWS: rules that cfn-lint does not have.

`check(parse(text))` gives a sentence for each fault. The rules read single templates, the project's own and those
that a user put in their place, so a rule speaks only of resources that are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.template_checks import access, measuring, storage, tasks, traffic
from pipeline.template_checks.reading import Template, parse

__all__ = ["check", "parse"]

RULES = (*access.RULES, *storage.RULES, *traffic.RULES, *tasks.RULES, *measuring.RULES)


def check(template: Mapping[str, Any]) -> list[str]:
    """Every fault of a parsed template, as `LogicalId: what is wrong (rule)`; none is an empty list."""
    read = Template(template)
    return sorted(
        {
            f"{logical_id}: {fault} ({rule.__name__.replace('_', '-')})"
            for rule in RULES
            for logical_id, fault in rule(read)
        }
    )
