"""AWS::Budgets::Budget: stored. No costs arise in a rehearsal, so no budget ever notifies."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, words


def create(work: Work) -> None:
    budget = work.get("Budget")
    name = budget.get("BudgetName") or work.name(100)
    own = work.only("NotificationsWithSubscribers") | {"Budget": budget | {"BudgetName": name}}
    work.send("budgets", "create_budget", own, AccountId=work.account)
    work.made(name)


def update(work: Work) -> None:
    """Put the new budget in the old one's place: moto has no UpdateBudget."""
    budget = work.get("Budget")
    if budget.get("BudgetName", work.physical_id) != work.physical_id:
        raise ResourceFailed("renaming a budget is not rehearsed", "InvalidRequest")
    own = work.only("NotificationsWithSubscribers") | {"Budget": budget | {"BudgetName": work.physical_id}}
    work.call("budgets", "delete_budget", AccountId=work.account, BudgetName=work.physical_id)
    work.send("budgets", "create_budget", own, AccountId=work.account)


def delete(work: Work) -> None:
    with ignoring_missing("NotFoundException"):
        work.call("budgets", "delete_budget", AccountId=work.account, BudgetName=work.physical_id)


def attributes(work: Work) -> dict[str, Any]:
    return {"Id": work.physical_id}


KINDS = (
    Kind(
        "AWS::Budgets::Budget", words("Budget NotificationsWithSubscribers"), create, delete, update,
        words("NotificationsWithSubscribers"), attributes, recorded_only=always,
    ),
)  # fmt: skip
