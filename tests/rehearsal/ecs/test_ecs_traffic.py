"""The weights of governed rules."""

from __future__ import annotations

import pytest

from rehearsal.ecs.traffic import forwarded, weighted

STICKY = {"Enabled": True, "DurationSeconds": 60}


def forward(**weights):
    groups = [{"TargetGroupArn": group, "Weight": weight} for group, weight in weights.items()]
    return {"Type": "forward", "Order": 2, "ForwardConfig": {"TargetGroups": groups}}


def test_weights_change_in_the_forward_action_alone():
    """An authentication before the forward, its order and the stickiness stay as they were."""
    login = {"Type": "authenticate-oidc", "Order": 1}
    action = forward(blue=100, green=0)
    action["ForwardConfig"]["TargetGroupStickinessConfig"] = STICKY
    changed = weighted([login, action], {"green": 100.0, "blue": 0.0})
    assert (changed[0], changed[1]["Order"]) == (login, 2)
    assert changed[1]["ForwardConfig"]["TargetGroupStickinessConfig"] == STICKY
    assert forwarded(changed) == {"green": 100, "blue": 0}


@pytest.mark.parametrize("action", [forward(blue=100, green=0), forward(blue=1, green=0)])
def test_a_rule_that_has_the_shares_already_is_left_alone(action):
    """Equal shares, in whatever numbers, are no change."""
    actions = [action]
    assert weighted(actions, {"blue": 100.0, "green": 0.0}) is actions


def test_fractions_of_a_percent_are_told_in_tenths():
    """A canary of 0.5 % becomes 5 : 995, which the API's whole weights up to 999 can say."""
    assert forwarded(weighted([forward(blue=1, green=0)], {"green": 0.5, "blue": 99.5})) == {"green": 5, "blue": 995}


def test_a_rule_with_a_single_target_group_is_read():
    """The short form of a forward action counts as one group with all the weight."""
    assert forwarded([{"Type": "forward", "TargetGroupArn": "blue"}]) == {"blue": 1}
