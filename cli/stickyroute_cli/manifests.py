"""Kubernetes YAML in a folder: read as kubectl reads it, each mistake told with file and line.

A file or object that becomes bad keeps its last good content: a typing error never takes a route away.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_BYTES: Final = 32 * 1024 * 1024
STAYS: Final = "its last good content stays"


class Key(NamedTuple):
    """Which object a manifest describes."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Manifest:
    """One object of a kind that is served."""

    key: Key
    body: dict[str, Any]
    file: str
    line: int


@dataclass(frozen=True, order=True)
class Problem:
    """Something in a file that cannot be used, and what to do about it."""

    file: str
    line: int
    """From 1; 0: the file as a whole."""
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Faulty(NamedTuple):
    """An object that reads as YAML, but whose content is bad."""

    manifest: Manifest
    trouble: str


@dataclass
class Parsed:
    """What one file holds."""

    manifests: list[Manifest] = field(default_factory=list)
    ignored: list[Key] = field(default_factory=list)
    """Objects of other kinds."""
    faulty: list[Faulty] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What belongs to no object that can be named."""
    broken: bool = False
    """The file as a whole could not be read: nothing in it counts."""


Check = Callable[[dict[str, Any]], str]
"""What is wrong with an object and what to do; empty when it is good."""

KINDS: Final = {
    "StickyRoute": "stickyroute.dev/",
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/",
    "Pod": "v1",
    "Secret": "v1",
    "ConfigMap": "v1",
}
"""The kinds that are served, and how their apiVersion begins."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl takes it: no dates (they stay text), and no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag == "tag:yaml.org,2002:bool":
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key.value} is read as true or false: put it in quotes",
                    key.start_mark,
                )
            if key.tag != "tag:yaml.org,2002:str" or not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be text: put it in quotes", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} stands here twice: remove one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        """Numbers; `22:30` is text, as it is to kubectl, not a number of base sixty."""
        if ":" in node.value:
            return str(node.value)
        try:
            return (
                self.construct_yaml_int(node)
                if node.tag.endswith(":int")
                else self.construct_yaml_float(node)
            )
        except ValueError:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{node.value!r} is not a number: correct it, or put it in quotes",
                node.start_mark,
            ) from None


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def parse(text: str, file: str, checks: Mapping[str, Check]) -> Parsed:
    """All objects of a file, each held to the check of its kind; `List` objects are opened. Never raises."""
    parsed = Parsed()
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            _take(loader.construct_document(node), node, file, checks, parsed)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"not YAML: a character that text has not (#x{error.character:04x}): remove it"
        parsed = Parsed(broken=True, problems=[Problem(file, line, what)])
    except yaml.MarkedYAMLError as error:
        line, what = _explain(error)
        parsed = Parsed(broken=True, problems=[Problem(file, line, what)])
    except RecursionError:
        parsed = Parsed(broken=True, problems=[Problem(file, 0, "nested too deeply: simplify it")])
    return parsed


def _explain(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    problem = error.problem or "cannot be read"
    if mark is None or isinstance(error, yaml.constructor.ConstructorError):
        return line, problem
    return (
        line,
        f"not YAML: {problem} (column {mark.column + 1}); check indentation, colons and quotes from here up",
    )


def _take(document: Any, node: Any, file: str, checks: Mapping[str, Check], parsed: Parsed) -> None:
    line = node.start_mark.line + 1
    if document is None:
        return
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document:
        items = document["items"]
        lines = next(
            (
                [item.start_mark.line + 1 for item in value.value]
                for key, value in node.value
                if key.value == "items" and isinstance(value, yaml.SequenceNode)
            ),
            [],
        )
        if not isinstance(items, list):
            parsed.problems.append(Problem(file, line, f"{document['kind']}: items must be a list"))
            return
        for item, at in zip(items, lines, strict=False):
            _object(item, at, file, checks, parsed)
        return
    _object(document, line, file, checks, parsed)


def _object(body: Any, line: int, file: str, checks: Mapping[str, Check], parsed: Parsed) -> None:
    def bad(text: str) -> None:
        parsed.problems.append(Problem(file, line, text))

    if not isinstance(body, dict):
        return bad("not a Kubernetes object: it needs apiVersion, kind and metadata")
    kind, api = body.get("kind"), body.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        return bad("kind is missing: set it, for example `kind: StickyRoute`")
    if not isinstance(api, str) or not api:
        return bad(f"{kind}: apiVersion is missing: set it, for example `apiVersion: {_api_of(kind)}`")
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        return bad(f"{kind}: metadata.name is missing: give the object a name")
    namespace = metadata.get("namespace") or "default"
    if not isinstance(namespace, str):
        return bad(f"{kind} {name}: metadata.namespace must be text: put it in quotes")
    key = Key(kind, namespace, name)
    if kind not in KINDS or not api.startswith(KINDS[kind]):
        parsed.ignored.append(key)
        return None
    if any(manifest.key == key for manifest in parsed.manifests):
        return bad(f"{key} stands twice in this file: remove one")
    manifest = Manifest(key, {**body, "metadata": {**metadata, "namespace": namespace}}, file, line)
    if trouble := checks[kind](manifest.body) if kind in checks else "":
        parsed.faulty.append(Faulty(manifest, trouble))
    else:
        parsed.manifests.append(manifest)
    return None


def _api_of(kind: str) -> str:
    start = KINDS.get(kind, "v1")
    return {"stickyroute.dev/": "stickyroute.dev/v1alpha1", "discovery.k8s.io/": "discovery.k8s.io/v1"}.get(
        start, start
    )


def check_secret(body: dict[str, Any]) -> str:
    """What is wrong with a Secret; never any of its values."""
    data = body.get("data") or {}
    if not isinstance(data, dict):
        return "data must be a mapping of names to base64 text"
    for name, value in data.items():
        if not isinstance(value, str):
            return f"data.{name} must be base64 text: put plain text under stringData"
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            return f"data.{name} is not base64: encode it, or put plain text under stringData"
    plain = body.get("stringData") or {}
    if not isinstance(plain, dict) or not all(isinstance(value, str) for value in plain.values()):
        return "stringData must be a mapping of names to text"
    return ""


def check_config_map(body: dict[str, Any]) -> str:
    """What is wrong with a ConfigMap."""
    data = body.get("data") or {}
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        return "data must be a mapping of names to text"
    return ""


@dataclass(frozen=True)
class Contents:
    """What a folder says now."""

    manifests: dict[Key, Manifest]
    problems: tuple[Problem, ...]
    ignored: tuple[tuple[str, Key], ...]
    """File and object of each kind that is not served."""


class Folder:
    """The files of a folder, with the last good content of each.

    A `judged` object that is bad and was never good is passed on as it is: its status says so.
    """

    def __init__(self, checks: Mapping[str, Check], judged: Callable[[Manifest], bool]) -> None:
        self._checks = checks
        self._judged = judged
        self._texts: dict[str, bytes] = {}
        self._parsed: dict[str, Parsed] = {}
        self._good: dict[str, dict[Key, Manifest]] = {}
        self._judge: dict[str, dict[Key, Manifest]] = {}
        self._problems: dict[str, list[Problem]] = {}

    def take(self, files: Mapping[str, bytes | OSError]) -> Contents:
        """All files as they are now: content, or why it could not be read."""
        for gone in self._parsed.keys() - files.keys():
            self._texts.pop(gone, None)
            del self._parsed[gone], self._good[gone], self._judge[gone], self._problems[gone]
        for file, text in files.items():
            if isinstance(text, OSError):
                self._texts.pop(file, None)
            elif self._texts.get(file) == text:
                continue
            else:
                self._texts[file] = text
            self._remember(file, _read(text, file, self._checks))
        return self._contents()

    def _remember(self, file: str, parsed: Parsed) -> None:
        before = self._good.get(file, {})
        good = {manifest.key: manifest for manifest in parsed.manifests}
        judge: dict[Key, Manifest] = {}
        problems = list(parsed.problems)
        if problems:  # whatever else it holds is not known for sure
            good = before | good
        if problems and before:
            problems = [replace(problem, text=f"{problem.text} ({STAYS})") for problem in problems]
        for manifest, trouble in parsed.faulty:
            key = manifest.key
            if key in before:
                good[key] = before[key]
                problems.append(Problem(file, manifest.line, f"{key}: {trouble} ({STAYS})"))
            elif self._judged(manifest):
                judge[key] = manifest
            else:
                problems.append(Problem(file, manifest.line, f"{key}: {trouble}"))
        self._parsed[file], self._problems[file] = parsed, problems
        self._good[file], self._judge[file] = good, judge

    def _contents(self) -> Contents:
        manifests: dict[Key, Manifest] = {}
        problems = [problem for found in self._problems.values() for problem in found]
        for file in sorted(self._good):
            for key, manifest in (self._good[file] | self._judge[file]).items():
                first = manifests.setdefault(key, manifest)
                if first is not manifest:
                    where = f"{first.file}:{first.line}"
                    text = f"{key} is also in {where}, which counts: remove one of them"
                    problems.append(Problem(file, manifest.line, text))
        return Contents(
            manifests,
            tuple(sorted(problems)),
            tuple((file, key) for file in sorted(self._parsed) for key in self._parsed[file].ignored),
        )


def _read(text: bytes | OSError, file: str, checks: Mapping[str, Check]) -> Parsed:
    if isinstance(text, OSError):
        reason = text.strerror or type(text).__name__
        return Parsed(
            broken=True, problems=[Problem(file, 0, f"cannot be read ({reason}): check its permissions")]
        )
    try:
        return parse(text.decode("utf-8-sig"), file, checks)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        return Parsed(broken=True, problems=[Problem(file, line, "not UTF-8 text: save it as UTF-8")])


def load(folder: Path) -> dict[str, bytes | OSError]:
    """The manifests of a folder (not of those inside it), by file name. OSError when it cannot be listed."""
    files: dict[str, bytes | OSError] = {}
    for path in _listed(folder):
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise OSError(27, f"larger than {MAX_BYTES // 1024 // 1024} MiB")
            files[path.name] = path.read_bytes()
        except FileNotFoundError:
            continue  # it went between listing and reading
        except OSError as error:
            files[path.name] = error
    return files


def _listed(folder: Path) -> Iterable[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )
