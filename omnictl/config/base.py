"""The base class of all configs."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen set of typed fields: no key that is not declared, no float that is not finite.

    Unions of configs are told apart by a `Literal` field of theirs (`kind: Literal["adamw"]`).
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),  # stages have a field called `model`
    )
