"""Which config classes may stand at a key: nested ones, and the variants of a union, told apart by their tags."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args, get_origin

from omnictl.config.base import Config
from omnictl.config.files import Key


def nested_models(annotation: object) -> list[type[Config]]:
    """The config classes in a field's type, inside unions, lists and dicts too."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [model for argument in get_args(annotation) for model in nested_models(argument)]


def find_variant(models: Sequence[type[Config]], value: object) -> list[type[Config]]:
    """The models whose `Literal` fields agree with the value; all of them where none does."""
    return [model for model in models if _fits(model, value)] or list(models)


def models_in(models: Sequence[type[Config]], name: str) -> list[type[Config]]:
    """The config classes that the field of that name may hold in any of the models."""
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    return [inner for field in fields for inner in nested_models(field.annotation)]


def models_at(cls: type[Config], key: Key, values: object) -> list[type[Config]]:
    """The config classes that the value at a key may be, by the tags given in `values`."""
    models = [cls]
    for name in key:
        values = values.get(name) if isinstance(values, Mapping) else None
        is_field = any(name in model.model_fields for model in models)
        # What is no field is an index into a list of the same models.
        models = find_variant(models_in(models, name) if is_field else models, values)
    return models


def dotted_keys(cls: type[Config]) -> Iterator[str]:
    """Every key of a config, in field order, the keys of all variants included."""
    for name, field in cls.model_fields.items():
        yield name
        inner = (key for model in nested_models(field.annotation) for key in dotted_keys(model))
        yield from dict.fromkeys(f"{name}.{key}" for key in inner)


def lay_over(models: Sequence[type[Config]], base: Mapping[str, object], layer: Mapping[str, object]) -> dict[str, object]:
    """Merges `layer` over `base` key by key; lists and single values are replaced.

    Where the layer chooses another variant of a union, the base's values belong to the old one and go.
    """
    merged = dict(base)
    for name, new in layer.items():
        old = base.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = models_in(models, name)
            is_same_variant = find_variant(inner, old) == find_variant(inner, {**old, **new})
            merged[name] = lay_over(find_variant(inner, new), old, new) if is_same_variant else new
        else:
            merged[name] = new
    return merged


def _fits(model: type[Config], value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    fields = model.model_fields.items()
    choices = {name: get_args(field.annotation) for name, field in fields if get_origin(field.annotation) is Literal}
    return all(value[name] in options for name, options in choices.items() if name in value)
