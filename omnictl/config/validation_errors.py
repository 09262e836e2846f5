"""Pydantic's complaints in plain words: what was found, what was expected, at which key of the user's."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from omnictl.config.base import Config
from omnictl.config.files import Key
from omnictl.config.suggest import suggest_keys
from omnictl.config.union_variants import dotted_keys, models_at

# Complaint -> what was expected. Bounds and lengths come with the complaint.
_EXPECTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
}
# Complaints without a found value.
_MESSAGES = {
    "missing": "missing, expected a value",
    "union_tag_not_found": "missing, expected the kind that is meant",
    # All that can be wrong in JSON of our own writing.
    "json_invalid": "found a text with a lone surrogate (a name that is not UTF-8), expected valid Unicode",
}
_VALIDATOR = ("value_error", "assertion_error")
_MAX_FOUND = 60  # characters


class Problem(NamedTuple):
    """One thing that is wrong: the key, in words, and whether it concerns a whole config and not one value."""

    key: Key
    text: str
    of_model: bool


class _Complaint(NamedTuple):
    """One of pydantic's errors at the user's key; `branch` is the member of the union at `union` that complains."""

    key: Key
    union: Key | None
    branch: str
    error: ErrorDetails


def explain(error: ValidationError, cls: type[Config], values: Mapping[str, object]) -> list[Problem]:
    """Turns a failed validation of `values` as `cls` into problems, one a key."""
    by_key: dict[Key, list[_Complaint]] = {}
    for complaint in _of_likeliest_branches([_locate(details, values) for details in error.errors()]):
        by_key.setdefault(complaint.key, []).append(complaint)
    return [_problem(key, complaints, cls, values) for key, complaints in by_key.items()]


def _locate(error: ErrorDetails, values: object) -> _Complaint:
    """Follows pydantic's path through the values; what is not a key there is the label of a union's member."""
    key: list[str] = []
    union, branch = None, ""
    path = error["loc"]
    missing = [str(path[-1])] if error["type"] == "missing" else []
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        missing = [error["ctx"]["discriminator"].strip("'")]
    for part in path[:-1] if error["type"] == "missing" else path:
        inner = dict(enumerate(values)) if isinstance(values, list) else values
        if isinstance(inner, Mapping) and part in inner:
            values = inner[part]
            key.append(str(part))
        elif union is None:
            union, branch = tuple(key), str(part)
    return _Complaint((*key, *missing), union, branch, error)


def _of_likeliest_branches(complaints: list[_Complaint]) -> list[_Complaint]:
    """Every member of a union complains. Of those that looked inside the value, keeps the one that it is nearest to."""
    for union in {complaint.union for complaint in complaints if complaint.union is not None}:
        inside: dict[str, list[str]] = {}
        for complaint in complaints:
            if complaint.union == union and len(complaint.key) > len(union):
                inside.setdefault(complaint.branch, []).append(complaint.error["type"])
        if inside:
            # A wrong literal is most likely the tag of another member.
            likeliest = min(inside, key=lambda branch: ("literal_error" in inside[branch], len(inside[branch])))
            complaints = [c for c in complaints if c.union != union or c.branch == likeliest]
    return complaints


def _problem(key: Key, complaints: Sequence[_Complaint], cls: type[Config], values: Mapping[str, object]) -> Problem:
    error = complaints[0].error
    value = error["input"]
    if error["type"] == "extra_forbidden":
        return Problem(key, _unknown(key, cls, values), of_model=False)
    if error["type"] in _MESSAGES:
        return Problem(key, _MESSAGES[error["type"]], of_model=not key)
    if error["type"] in _VALIDATOR:
        message = str(error["ctx"]["error"])
        of_model = isinstance(value, Mapping)
        return Problem(key, message if of_model else f"found {_show(value)}, {message}", of_model)
    if error["type"] == "union_tag_invalid":
        value = error["ctx"]["tag"]
    expected = " or ".join(dict.fromkeys(_expectation(complaint.error) for complaint in complaints))
    return Problem(key, f"found {_show(value)}, expected {expected}", of_model=False)


def _expectation(error: ErrorDetails) -> str:
    template = _EXPECTED.get(error["type"])
    if template is None:
        return error["msg"].removeprefix("Input should be ")
    bounds = {name: _plain(bound) for name, bound in error.get("ctx", {}).items()}
    return template.format(**bounds)


def _plain(bound: object) -> str:
    """A bound as the user would write it: 0 for 0.0; pydantic's 'a' or 'b' in the quotes that the files use."""
    return f"{bound:g}" if isinstance(bound, float) else str(bound).replace("'", '"')


def _unknown(key: Key, cls: type[Config], values: Mapping[str, object]) -> str:
    *parents, name = key
    parent = ".".join(parents)
    siblings = list(dict.fromkeys(n for model in models_at(cls, key[:-1], values) for n in model.model_fields))
    keys = list(dotted_keys(cls))
    valid = ", ".join(siblings)
    if ".".join(key) in keys:
        return f"not a key of the kind that is chosen, expected one of {valid}"
    meant = suggest_keys(parent, name, siblings, keys)
    if meant:
        return f"unknown key, did you mean {' or '.join(repr(other) for other in meant)}?"
    return f"unknown key, expected one of {valid}"


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_FOUND else f"{text[: _MAX_FOUND - 1]}…"
