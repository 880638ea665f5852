"""Templates: YAML with CloudFormation's short forms, or JSON, read and checked before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.references import FUNCTIONS, PSEUDO_PARAMETERS, Reference, functions, references

SECTIONS = {
    "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Resources",
    "Outputs", "Transform", "Rules",
}  # fmt: skip
RESOURCE_KEYS = {
    "Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata",
}  # fmt: skip
LANGUAGE_EXTENSIONS = "AWS::LanguageExtensions"
EXTENSION_FUNCTIONS = {"Fn::ToJsonString", "Fn::Length"}
DELETION_POLICIES = {"Delete", "Retain", "RetainExceptOnCreate"}


@dataclass(frozen=True)
class Template:
    """One template's sections; `body` is the text as it was sent."""

    body: str
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    mappings: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    transforms: tuple[str, ...] = ()


def parse(body: str) -> Template:
    """The template in `body`, or TemplateError in AWS's words."""
    document = _document(body)
    unknown = sorted(set(document) - SECTIONS)
    if unknown:
        raise TemplateError(f"Invalid template property or properties [{', '.join(unknown)}]")
    if not document.get("Resources"):
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    if document.get("Rules"):
        raise TemplateError("Template section Rules is not rehearsed")
    transforms = document.get("Transform") or ()
    template = Template(
        body=body,
        description=document.get("Description", ""),
        metadata=document.get("Metadata") or {},
        parameters=document.get("Parameters") or {},
        mappings=document.get("Mappings") or {},
        conditions=document.get("Conditions") or {},
        resources=document["Resources"],
        outputs=document.get("Outputs") or {},
        transforms=(transforms,) if isinstance(transforms, str) else tuple(transforms),
    )
    _check(template)
    return template


def deletion_policy(declaration: dict[str, Any]) -> str:
    """What becomes of a resource when it leaves the stack."""
    return str(declaration.get("DeletionPolicy", "Delete"))


def creation_order(declarations: dict[str, dict[str, Any]]) -> list[str]:
    """The resources, each after those it depends on; TemplateError when they depend on each other."""
    waiting = {name: dependencies(entry) & set(declarations) for name, entry in declarations.items()}
    ordered: list[str] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if not needs - set(ordered)]
        if not ready:
            raise TemplateError(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
        ordered += ready
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}
    return ordered


def dependencies(declaration: dict[str, Any]) -> set[str]:
    """The names that a resource's declaration depends on, by DependsOn or by reference; parameters among them."""
    return {reference.name for reference in references(declaration.get("Properties", {}))} | depends_on(declaration)


def depends_on(declaration: dict[str, Any]) -> set[str]:
    """The resources named in DependsOn."""
    explicit = declaration.get("DependsOn", [])
    return {explicit} if isinstance(explicit, str) else set(explicit)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as CloudFormation reads it: short forms of functions, and dates (2012-10-17) stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _short_form(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def _document(body: str) -> dict[str, Any]:
    try:
        document = yaml.load(body, Loader=_Loader)  # noqa: S506 - a SafeLoader with short forms
    except yaml.YAMLError as error:
        raise TemplateError(f"Template format error: YAML not well-formed. ({_place(error)})") from error
    if not isinstance(document, dict):
        raise TemplateError("Template format error: unsupported structure.")
    return document


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else str(error)


def _check(template: Template) -> None:
    if unknown := [name for name in template.transforms if name != LANGUAGE_EXTENSIONS]:
        raise TemplateError(f"Transform {unknown[0]} is not rehearsed")
    for logical_id, declaration in template.resources.items():
        _check_resource(template, logical_id, declaration)
    _check_functions(template)
    _check_references(template, template.resources, "Resources")
    _check_references(template, template.outputs, "Outputs")
    for key, output in template.outputs.items():
        if "Value" not in output:
            raise TemplateError(f"Template format error: Output {key} is malformed. It must have a Value.")
        if "Export" in output:
            raise TemplateError(f"Export (output {key}) is not rehearsed")
    creation_order(template.resources)


def _check_resource(template: Template, logical_id: str, declaration: dict[str, Any]) -> None:
    if not logical_id.isalnum():
        raise TemplateError(f"Template format error: Resource name {logical_id} is non alphanumeric.")
    if not isinstance(declaration, dict) or "Type" not in declaration:
        raise TemplateError(
            f"Template format error: [/Resources/{logical_id}] Every Resources object must contain a Type member."
        )
    if unknown := sorted(set(declaration) - RESOURCE_KEYS):
        raise TemplateError(f"Resource {logical_id}: {', '.join(unknown)} is not rehearsed")
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        if declaration.get(policy, "Delete") not in DELETION_POLICIES:
            raise TemplateError(f"Resource {logical_id}: {policy} {declaration[policy]} is not rehearsed")
    if missing := depends_on(declaration) - set(template.resources):
        raise TemplateError(
            f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] "
            "in the Resources block of the template"
        )


def _check_functions(template: Template) -> None:
    extended = LANGUAGE_EXTENSIONS in template.transforms
    for name in functions((template.conditions, template.resources, template.outputs)):
        if name == "Fn::ImportValue":
            raise TemplateError("Fn::ImportValue is not rehearsed: outputs travel as parameters")
        if name not in FUNCTIONS or (name in EXTENSION_FUNCTIONS and not extended):
            raise TemplateError(
                f"Template error: Encountered unsupported function: {name} Supported functions are: "
                f"[{', '.join(sorted(set(FUNCTIONS) if extended else set(FUNCTIONS) - EXTENSION_FUNCTIONS))}]"
            )


def _check_references(template: Template, section: dict[str, Any], block: str) -> None:
    known = set(template.resources) | set(template.parameters) | PSEUDO_PARAMETERS
    found = list(_condition_free(section))
    if undefined := sorted({ref.name for ref in found if not ref.attribute and ref.name not in known}):
        raise TemplateError(
            f"Template format error: Unresolved resource dependencies [{', '.join(undefined)}] "
            f"in the {block} block of the template"
        )
    for reference in found:
        if reference.attribute and reference.name not in template.resources:
            raise TemplateError(
                f"Template error: instance of Fn::GetAtt references undefined resource {reference.name}"
            )


def _condition_free(section: dict[str, Any]) -> Iterator[Reference]:
    for declaration in section.values():
        yield from references(
            {key: value for key, value in declaration.items() if key not in ("DependsOn", "Condition")}
        )
