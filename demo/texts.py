"""What the story says between its commands."""

from __future__ import annotations

from typing import Any

LOCAL_AWS = """
The same AWS calls as in your account, answered on this machine: CloudFormation, ECR, S3, and an ECS
whose tasks are real processes behind a load balancer on real ports.
"""
BOOTSTRAP = """
Once per account and environment: the roles that deploy, an image repository that never overwrites a tag,
and one versioned bucket for models and release records.
"""
FIRST_SHIP = """
Build, scan, publish the model, deploy the stacks, and create the service. Even this first release must
pass the gate: its answers and a load test, on a listener that no user reaches.
"""
USERS = "Users arrive at {url}: {rps} requests a second until the end, every fifth with two images."
SECOND_SHIP = """
A new model and new code, while users keep coming. Green starts beside blue, ECS holds at the PAUSE hook,
golden inputs and Locust judge green on the test listener, and only then does production move.
"""
SHIP_AGAIN = """
Nothing has changed since v2: the answer is "nothing to do", exit 0, and no stack or service is touched.
A pipeline that is run twice must be boring.
"""
BAD_RELEASES = "Now eight releases that must not reach users. Each gets a little further than the one before."
NO_GATE = """
A rolling deployment replaces tasks under the same listener: nothing can judge the new ones before users see
  them. The releases that only a gate would stop are left out of this story."""
BILL = """
The month's bill passes the budget of 300 USD. Nobody looks at bills every day: the alarm in us-east-1 must
reach its subscriber, here a queue.
"""
MODEL_ONLY = """
Only the model file changed. The image is reused by its digest; the new model goes through the same gate.
"""
ROLLBACK = """
v3 disappoints? One command goes back to a release by name: its recorded image and model, judged by the
golden inputs, still without a failed request.
"""
HISTORY = """
Every release is a record: commit, image digest, model digest, gates, who, and how it ended.
"""


def verdict(told: dict[str, Any], requests: int) -> str:
    """One line on a bad release that has ended."""
    seen, failed = told["production_requests"], told["failed_requests"]
    if told["outcome"] == "refused":
        saw = f"{seen} of the users' {requests:,} requests reached it" if seen else "no user saw it"
        return f"{'✗' if seen else '✓'} {told['id']}: refused by `{told['gate']}` after {told['duration_s']} s; {saw}"
    return (
        f"✓ {told['id']}: rolled back after {told['duration_s']} s; it answered {seen} of the users' {requests:,} "
        f"requests, {failed} of them wrongly"
    )
