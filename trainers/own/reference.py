"""Names of a user's own code, PACKAGE.MODULE:NAME or ./FILE.py:NAME, and the parts of a config that take them."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)

from trainers.fields import Frozen, parse_number, path_text

#: The parts of a trial whose name may be a user's own, each with its keys, beside name and code, that all its choices
#: have. Every other is an option there: what a built-in choice alone reads is given to the user's own code.
COMMON: dict[str, frozenset[str]] = {
    "model": frozenset({"normalize", "moments", "fine_tune", "weights_fingerprint"}),
    "data": frozenset(
        {"root", "download", "validation_fraction", "train_per_class", "test_per_class", "in_memory_gib", "decode"}
        | {"augment", "padding", "crop", "crop_scale", "crop_size"}
        | {"fingerprint", "cutmix", "cutmix_window", "policy", "extra", "extra_fraction", "extra_fingerprint"}
    ),
    "objective": frozenset({"s2o"}),
    "optimizer": frozenset({"lr", "weight_decay"}),
    "schedule": frozenset({"warmup_epochs"}),
}
PARTS = tuple(COMMON)

#: What stands before the colon in names of other kinds.
_OTHER_KINDS = ("torchvision", "timm")

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_PATTERN = rf"^(?:(?P<file>[^:]+\.py)|(?P<module>{_WORD}(?:\.{_WORD})*)):(?P<name>{_WORD})$"
_NUMBER = re.compile(r"[-+]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(/(?!0\d)\d+)?")


class Reference(NamedTuple):
    """A name of the user's, taken apart."""

    module: str
    """As it is imported: my_package.nets, or of ./FILE.py its name without the ending."""
    name: str
    """In that module."""
    file: str | None
    """The path as it was written, relative or absolute; None: it is a package's module."""

    @property
    def canonical(self) -> str:
        """The name wherever the file lies: what stands in the trial's identity.

        >>> parse("../shared/nets.py:MyNet").canonical, parse("my_package.nets:MyNet").canonical
        ('./nets.py:MyNet', 'my_package.nets:MyNet')
        """
        return f"{self.module}:{self.name}" if self.file is None else f"./{self.module}.py:{self.name}"


def is_reference(name: object) -> bool:
    """Whether a name is one of a user's own code.

    >>> [is_reference(name) for name in ("./nets.py:MyNet", "my_package.nets:MyNet", "torchvision:resnet18", "sgd")]
    [True, True, False, False]
    """
    return (
        isinstance(name, str)
        and ":" in name
        and name.partition(":")[0] not in _OTHER_KINDS
        and re.match(_PATTERN, name) is not None
    )


def parse(name: str) -> Reference:
    """A name for which `is_reference` holds, taken apart."""
    parts = re.match(_PATTERN, name)
    assert parts is not None, f"{name!r} is no reference"
    file, module = parts["file"], parts["module"]
    return Reference(module or file.replace("\\", "/").rpartition("/")[2].removesuffix(".py"), parts["name"], file)


def is_own(name: object) -> bool:
    """`is_reference`, in a config.

    Raises:
        ValueError: it looks like one, and is none.
    """
    if is_reference(name):
        path_text(parse(str(name)).file or "")
        return True
    if isinstance(name, str) and (":" in name or ".py" in name) and name.partition(":")[0] not in _OTHER_KINDS:
        raise ValueError(f"must be PACKAGE.MODULE:NAME or ./FILE.py:NAME for code of your own, got {name!r}")
    return False


def _listed_or_own(value: Any, listed: ValidatorFunctionWrapHandler) -> Any:
    return value if is_own(value) else listed(value)


class OwnName(WrapValidator):
    """Beside the listed names of a field, those of a user's own code: `Annotated[Literal[...], OwnName()]`."""

    def __init__(self, example: str = "./FILE.py:NAME") -> None:
        """Args:
        example: how such names look, for who gives one that is neither.
        """
        super().__init__(_listed_or_own)
        object.__setattr__(self, "example", example)  # of a frozen dataclass

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either kind of name, for editors."""
        return {"anyOf": [handler(schema), {"type": "string", "pattern": re.sub(r"\?P<\w+>", "", _PATTERN)}]}


class OwnPart(Frozen):
    """A part of a config that a user's own code can fill; it then takes that code's options as further keys.

    What is a key of the built-in choices alone, such as objective.beta, is then an option like any other. A dump of the
    part holds the keys that both have, and the options.
    """

    model_config = ConfigDict(extra="allow")

    #: Which of them it is.
    PART: ClassVar[str]

    code: str | None = Field(
        None, description="Own code: the hash of its source. Filled in by the sweep; if set, another source is refused."
    )

    @property
    def is_own(self) -> bool:
        """Whether a user's own code fills it."""
        return is_reference(getattr(self, "name"))  # noqa: B009  (a field of each subclass)

    @property
    def options(self) -> dict[str, Any]:
        """What the user's own code is given: its keys and their values."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="wrap")
    @classmethod
    def _with_options(cls, values: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict) or not is_reference(values.get("name")):
            part = build(values)
            _refuse_options(cls, part)
            return part
        common = COMMON[cls.PART] | {"name", "code"}
        options = {key: _plain(key, value) for key, value in values.items() if key not in common}
        part = build({key: value for key, value in values.items() if key in common})
        object.__setattr__(part, "__pydantic_extra__", options)
        part.model_fields_set.update(options)
        return part

    @model_serializer(mode="wrap")
    def _without_what_is_not_its(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if values.get("code") is None:
            values.pop("code", None)
        if not self.is_own:
            return values
        common, options = COMMON[self.PART] | {"name", "code"}, self.options
        return {key: value for key, value in values.items() if key in common} | options


def _refuse_options(cls: type[OwnPart], part: OwnPart) -> None:
    """A built-in choice has no keys but the config's own, and no source."""
    wrong = [{"type": "extra_forbidden", "loc": (key,), "input": value} for key, value in part.options.items()]
    if wrong:
        raise ValidationError.from_exception_data(cls.__name__, wrong)  # type: ignore[arg-type]
    if part.code is not None and not part.is_own:
        raise ValueError("code: only own code has one, and name is a built-in choice; leave it out")


def number(value: Any) -> Any:
    """Text that is a number as that number, but for one as 01 or 2024/05; everything else as it is."""
    return parse_number(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _plain(key: str, value: Any) -> Any:
    """An option's value; 1e-4 and 8/255, which YAML leaves text, as numbers. What is text by its quotes, as "3", stays
    so here: its annotation decides (`trainers.own.options`).
    """
    if isinstance(value, str) and any(sign in value for sign in "eE/"):
        value = number(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: must be finite, got {value}")
    return value
