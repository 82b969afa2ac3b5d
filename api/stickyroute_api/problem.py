"""What is wrong with an object, told by field and remedy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one field, and what to do about it."""

    field: str
    """The YAML path, such as `spec.rules[0].name`; empty: the whole object."""
    message: str
    object: str = ""
    """Kind, namespace and name, where known."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.object, self.field, self.message) if part)


def of_given(path: str, given: Mapping[str, bool], message: str) -> Iterator[Problem]:
    """One for each field below the path that is given, all with this message."""
    for field, is_given in given.items():
        if is_given:
            yield Problem(f"{path}.{field}", message)


class InvalidObject(ValueError):  # noqa: N818 - an object is invalid; the program has no error
    """A manifest is not a valid StickyRoute; `problems` has at least one entry."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
