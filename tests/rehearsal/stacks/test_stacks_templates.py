"""Templates as CloudFormation reads them, and what it says to those that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.intrinsics import NO_VALUE, Resolver
from rehearsal.stacks.parameters import given_values, referenced_values, shown
from rehearsal.stacks.template import creation_order, parse

TOPIC = "  It: {Type: AWS::SNS::Topic}\n"


class Nothing:
    """A world in which every resource is called `id-of-X` and has the attribute `Arn`."""

    def physical_id(self, logical_id: str) -> str:
        return f"id-of-{logical_id}"

    def attribute(self, logical_id: str, name: str) -> Any:
        return f"{name}-of-{logical_id}"

    def zones(self, region: str) -> list[str]:
        return [f"{region}a", f"{region}b"]


def resolved(value: str, head: str = "", **parameters: str) -> Any:
    """What an expression in the template's `Here` becomes."""
    names = "".join(f"  {name}: {{Type: String}}\n" for name in parameters)
    template = parse(
        (f"Parameters:\n{names}" if names else "") + head + f"Metadata: {{Here: {value}}}\nResources:\n{TOPIC}"
    )
    pseudo = {"AWS::Region": "eu-west-1", "AWS::StackName": "stack"}
    return Resolver(template, dict(parameters), pseudo, Nothing()).resolve(template.metadata["Here"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!Ref It", "id-of-It"),
        ("!GetAtt It.Arn", "Arn-of-It"),
        ("{Fn::GetAtt: [It, Arn]}", "Arn-of-It"),
        ("!Sub '${AWS::StackName}-${It}-${It.Arn}-${!Literal}'", "stack-id-of-It-Arn-of-It-${Literal}"),
        ("!Sub ['${A}-${B}', {A: one, B: !Ref It}]", "one-id-of-It"),
        ("!Join ['-', [a, !Ref It, 3, true]]", "a-id-of-It-3-true"),
        ("!Split [',', 'a,b']", ["a", "b"]),
        ("!Select [1, !GetAZs '']", "eu-west-1b"),
        ("!Select ['0', !GetAZs {Ref: 'AWS::Region'}]", "eu-west-1a"),
        ("!Cidr [10.0.0.0/16, 3, 8]", ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]),
        ("!Cidr [10.0.0.0/16, '2', '12']", ["10.0.0.0/20", "10.0.16.0/20"]),
        ("!Base64 hello", "aGVsbG8="),
        ("{a: !Ref 'AWS::NoValue', b: [1, !Ref 'AWS::NoValue']}", {"b": [1]}),
        ("{Version: 2012-10-17}", {"Version": "2012-10-17"}),
    ],
)
def test_every_function_gives_what_its_documentation_says(value: str, expected: Any) -> None:
    """Short and long forms of the functions give AWS's answers."""
    assert expected == resolved(value)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("!Equals [!Ref Mode, nat]", True),
        ("!Not [!Equals [!Ref Mode, nat]]", False),
        ("!And [!Equals [!Ref Mode, nat], !Equals [a, b]]", False),
        ("!Or [!Equals [!Ref Mode, nat], !Equals [a, b]]", True),
        ("!Equals [true, 'true']", True),
    ],
)
def test_conditions_choose_the_branch(condition: str, expected: bool) -> None:
    """Fn::If gives the branch that its condition chooses."""
    head = f"Conditions:\n  First: {condition}\n  Second: !Condition First\n"
    assert ("is" if expected else "is not") == resolved("!If [Second, is, is not]", head, Mode="nat")


def test_a_mapping_is_looked_up_by_both_keys() -> None:
    """Fn::FindInMap reads the template's mappings."""
    assert "small" == resolved(
        "!FindInMap [Sizes, !Ref Mode, Task]", "Mappings: {Sizes: {dev: {Task: small}}}\n", Mode="dev"
    )


def test_no_value_alone_is_no_value() -> None:
    """AWS::NoValue removes what it stands for instead of becoming a text."""
    assert resolved("!Ref 'AWS::NoValue'") is NO_VALUE


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Resources: {}", "At least one Resources member must be defined"),
        ("Resources: [", "YAML not well-formed. (line 2, column 1)"),
        ("Resourcez: {}", "Invalid template property or properties [Resourcez]"),
        ("Resources: {A: {Properties: {}}}", "Every Resources object must contain a Type member"),
        ("Resources: {A: {Type: T, DependsOn: B}}", "Unresolved resource dependencies [B] in the Resources block"),
        ("Resources: {A: {Type: T, Properties: {X: !Ref B}}}", "Unresolved resource dependencies [B]"),
        ("Resources: {A: {Type: T, Properties: {X: !Sub '${B}'}}}", "Unresolved resource dependencies [B]"),
        ("Resources: {A: {Type: T, Properties: {X: !GetAtt B.C}}}", "Fn::GetAtt references undefined resource B"),
        (
            "Resources: {A: {Type: T, Properties: {X: !Ref B}}, B: {Type: T, DependsOn: A}}",
            "Circular dependency between resources: [A, B]",
        ),
        ("Resources: {A: {Type: T, Properties: {X: !ImportValue B}}}", "Fn::ImportValue is not rehearsed"),
        ("Resources: {A: {Type: T, Properties: {X: !Foo B}}}", "Encountered unsupported function: Fn::Foo"),
        ("Resources: {A: {Type: T, Properties: {X: !ToJsonString B}}}", "unsupported function: Fn::ToJsonString"),
        ("Transform: AWS::Serverless\nResources: {A: {Type: T}}", "Transform AWS::Serverless is not rehearsed"),
        ("Resources: {A: {Type: T, DeletionPolicy: Snapshot}}", "DeletionPolicy Snapshot is not rehearsed"),
        ("Resources: {A: {Type: T, UpdatePolicy: {}}}", "UpdatePolicy is not rehearsed"),
        ("Resources: {A: {Type: T}}\nOutputs: {B: {Value: !Ref C}}", "[C] in the Outputs block"),
        (
            "Resources: {A: {Type: T}}\nOutputs: {B: {Value: 1, Export: {Name: x}}}",
            "Export (output B) is not rehearsed",
        ),
    ],
)
def test_a_faulty_template_is_refused_in_words(template: str, text: str) -> None:
    """What CloudFormation would refuse, or the rehearsal does not know, is refused by name."""
    with pytest.raises(TemplateError, match=text.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
        parse(template)


def test_the_language_extensions_transform_brings_its_functions() -> None:
    """Fn::ToJsonString works under the transform that CloudFormation demands for it."""
    head = "Transform: AWS::LanguageExtensions\n"
    assert '{"a":"id-of-It"}' == resolved("!ToJsonString {a: !Ref It}", head)


def test_resources_come_after_what_they_depend_on() -> None:
    """References inside Fn::Sub and DependsOn order the resources."""
    template = parse(
        "Resources: {C: {Type: T, DependsOn: [B]}, B: {Type: T, Properties: {X: [!Sub 'x-${A.Arn}']}}, A: {Type: T}}"
    )
    assert ["A", "B", "C"] == creation_order(template.resources)


PARAMETERS = """
Parameters:
  Name: {Type: String, AllowedPattern: '^[a-z]+$', ConstraintDescription: lower-case letters.}
  Size: {Type: Number, Default: 2, MinValue: 1, MaxValue: 5}
  Mode: {Type: String, Default: a, AllowedValues: [a, b]}
  Secret: {Type: String, NoEcho: true, Default: hush, MinLength: 1, MaxLength: 6}
  Many: {Type: CommaDelimitedList, Default: 'a, b'}
Resources: {It: {Type: AWS::SNS::Topic}}
"""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, r"Parameters: \[Name\] must have values"),
        ({"Name": "a", "Other": "x"}, r"Parameters: \[Other\] do not exist in the template"),
        ({"Name": "A"}, "Parameter Name failed to satisfy constraint: lower-case letters."),
        ({"Name": "a", "Size": "x"}, "Parameter 'Size' must be a number"),
        ({"Name": "a", "Size": "9"}, "not greater than 5"),
        ({"Name": "a", "Mode": "c"}, r"Parameter 'Mode' must be one of AllowedValues \[a, b\]"),
        ({"Name": "a", "Secret": ""}, "at least 1 characters"),
        ({"Name": "a", "Secret": "a long one"}, "at most 6 characters"),
    ],
)
def test_parameters_are_held_to_their_constraints(given: dict[str, str], text: str) -> None:
    """Missing, unknown and forbidden values are refused in CloudFormation's words."""
    with pytest.raises(TemplateError, match=text):
        given_values(parse(PARAMETERS), [{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()], {})


def test_previous_values_defaults_lists_and_secrets() -> None:
    """A value comes from the request, from before where asked, else from the default; NoEcho is never shown."""
    template = parse(PARAMETERS)
    given = [{"ParameterKey": "Name", "UsePreviousValue": True}, {"ParameterKey": "Size", "ParameterValue": "3"}]
    values = given_values(template, given, {"Name": "before", "Mode": "b"})
    assert {"Name": "before", "Size": "3", "Mode": "a", "Secret": "hush", "Many": "a, b"} == values
    assert ["a", "b"] == referenced_values(template, values, str)["Many"]
    assert {"ParameterKey": "Secret", "ParameterValue": "****"} in shown(template, values)
