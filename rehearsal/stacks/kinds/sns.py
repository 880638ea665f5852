"""AWS::SNS: topics, subscriptions, topic policies. No e-mail leaves a rehearsal."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, tag_changes, words

TOPIC_TEXTS = ("DisplayName", "KmsMasterKeyId", "SignatureVersion", "TracingConfig")
SUBSCRIPTION_TEXTS = (
    "DeliveryPolicy", "FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy",
)  # fmt: skip


def _texts(work: Work, names: tuple[str, ...]) -> dict[str, str]:
    """Attributes as SNS takes them: texts, documents as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in work.only(*names).items()}


def create_topic(work: Work) -> None:
    name, tags = work.get("TopicName") or work.name(256), work.get("Tags", [])
    made = work.call("sns", "create_topic", Name=name, Attributes=_texts(work, TOPIC_TEXTS), Tags=tags)
    work.made(made["TopicArn"])
    _subscribe_inline(work)


def update_topic(work: Work) -> None:
    topic = {"TopicArn": work.physical_id}
    wanted = _texts(work, TOPIC_TEXTS)
    for name in work.changed & set(TOPIC_TEXTS):
        work.call("sns", "set_topic_attributes", AttributeName=name, AttributeValue=wanted.get(name, ""), **topic)
    _subscribe_inline(work)
    put, remove = tag_changes(work)
    if put:
        work.call("sns", "tag_resource", ResourceArn=work.physical_id, Tags=put)
    if remove:
        work.call("sns", "untag_resource", ResourceArn=work.physical_id, TagKeys=remove)


def _subscribe_inline(work: Work) -> None:
    before, now = work.previous.get("Subscription", []), work.get("Subscription", [])
    for wanted in now:
        if wanted not in before:
            work.send("sns", "subscribe", wanted, TopicArn=work.physical_id)
    gone = [(entry["Protocol"], entry["Endpoint"]) for entry in before if entry not in now]
    if gone:
        for found in work.call("sns", "list_subscriptions_by_topic", TopicArn=work.physical_id)["Subscriptions"]:
            if (found["Protocol"], found["Endpoint"]) in gone:
                work.call("sns", "unsubscribe", SubscriptionArn=found["SubscriptionArn"])


def topic_attributes(work: Work) -> dict[str, Any]:
    return {"TopicArn": work.physical_id, "TopicName": work.physical_id.rpartition(":")[2]}


def delete_topic(work: Work) -> None:
    with ignoring_missing("NotFound"):
        for found in work.call("sns", "list_subscriptions_by_topic", TopicArn=work.physical_id)["Subscriptions"]:
            work.call("sns", "unsubscribe", SubscriptionArn=found["SubscriptionArn"])
        work.call("sns", "delete_topic", TopicArn=work.physical_id)


def subscribe(work: Work) -> None:
    own = work.only("TopicArn", "Protocol", "Endpoint")
    attributes = _texts(work, SUBSCRIPTION_TEXTS)
    made = work.send("sns", "subscribe", own, Attributes=attributes, ReturnSubscriptionArn=True)
    work.made(made["SubscriptionArn"])


def update_subscription(work: Work) -> None:
    wanted = _texts(work, SUBSCRIPTION_TEXTS)
    for name in work.changed & set(SUBSCRIPTION_TEXTS):
        work.call(
            "sns",
            "set_subscription_attributes",
            SubscriptionArn=work.physical_id,
            AttributeName=name,
            AttributeValue=wanted.get(name, ""),
        )


def unsubscribe(work: Work) -> None:
    with ignoring_missing("NotFound"):
        work.call("sns", "unsubscribe", SubscriptionArn=work.physical_id)


def put_topic_policy(work: Work) -> None:
    work.made(work.name(128))
    update_topic_policy(work)


def update_topic_policy(work: Work) -> None:
    document = json.dumps(work.get("PolicyDocument"))
    for topic in work.get("Topics"):
        work.call("sns", "set_topic_attributes", TopicArn=topic, AttributeName="Policy", AttributeValue=document)
    _open_to_owner(work, [topic for topic in work.previous.get("Topics", []) if topic not in work.get("Topics")])


def delete_topic_policy(work: Work) -> None:
    _open_to_owner(work, work.get("Topics"))


def _open_to_owner(work: Work, topics: list[str]) -> None:
    """A topic without a policy of its own has the default one: its owner may do all."""
    for topic in topics:
        statement = {
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": ["SNS:Publish", "SNS:Subscribe", "SNS:GetTopicAttributes", "SNS:SetTopicAttributes"],
            "Resource": topic,
            "Condition": {"StringEquals": {"AWS:SourceOwner": work.account}},
        }
        document = json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})
        with ignoring_missing("NotFound"):
            work.call("sns", "set_topic_attributes", TopicArn=topic, AttributeName="Policy", AttributeValue=document)


def reaches_a_person(properties: dict[str, Any]) -> bool:
    """Whether a subscription ends in a mailbox or a telephone, where the rehearsal sends nothing."""
    return str(properties.get("Protocol", "")).startswith(("email", "sms"))


KINDS = (
    Kind(
        "AWS::SNS::Topic", words("Subscription Tags TopicName") | set(TOPIC_TEXTS), create_topic, delete_topic,
        update_topic, words("TopicName"), topic_attributes, "TopicName",
        lambda properties: any(reaches_a_person(entry) for entry in properties.get("Subscription", [])),
    ),
    Kind(
        "AWS::SNS::Subscription", words("Endpoint Protocol TopicArn") | set(SUBSCRIPTION_TEXTS), subscribe,
        unsubscribe, update_subscription, words("Endpoint Protocol TopicArn"),
        lambda work: {"Arn": work.physical_id}, recorded_only=reaches_a_person,
    ),
    Kind(
        "AWS::SNS::TopicPolicy", words("PolicyDocument Topics"), put_topic_policy, delete_topic_policy,
        update_topic_policy, attributes=lambda work: {"Id": work.physical_id}, recorded_only=always,
    ),
)  # fmt: skip
