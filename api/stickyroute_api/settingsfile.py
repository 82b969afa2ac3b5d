"""A fleet's settings as people write them: chart values, or a file for `stickyroute serve`.

Durations and sizes are texts with units. What a field means, and its default, is said in `settings`. The
part of the chart's schema that these models are for is written from them by deploy/schema.py.
"""

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from stickyroute_api import settings
from stickyroute_api.check import Model
from stickyroute_api.duration import format_duration, parse_duration
from stickyroute_api.fields import Duration, Size, parse_size
from stickyroute_api.interval import networks, sizes
from stickyroute_api.problem import InvalidObject, Problem
from stickyroute_api.validate import found_in

__all__ = ["InvalidObject", "parse_settings"]


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise PydanticCustomError(
            "network", "{error}: write a network such as 10.0.0.0/8", {"error": str(error)}
        ) from None


def _endpoint(text: str) -> str:
    if text and not _ENDPOINT.fullmatch(text):
        raise PydanticCustomError("endpoint", "write host:port, such as valkey.shop.svc:6379")
    return text


def _between(least: int, most: int, words: str) -> Callable[[int | str], int | str]:
    def hold(size: int | str) -> int | str:
        if not least <= parse_size(size) <= most:
            raise PydanticCustomError("size_range", "must be from {words}", {"words": words})
        return size

    return hold


def _sized(least: int, most: int) -> WithJsonSchema:
    """The schema of sizes within bounds."""
    texts = sizes(least, most)
    return WithJsonSchema(
        {"type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": texts}
    )


def _word(value: Any) -> Any:
    """YAML reads a bare Off as false."""
    return "Off" if value is False else value


_ENDPOINT = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_Network = Annotated[str, AfterValidator(_network), WithJsonSchema({"type": "string", "pattern": networks()})]
_HeadSize = Annotated[Size, AfterValidator(_between(1024, 1 << 20, "1Ki to 1Mi")), _sized(1024, 1 << 20)]
_TargetSize = Annotated[Size, AfterValidator(_between(256, 1 << 20, "256 to 1Mi")), _sized(256, 1 << 20)]
_Mode = Annotated[
    Literal["Off", "Sampled", "All"],
    BeforeValidator(_word),
    WithJsonSchema({"enum": ["Off", "Sampled", "All", False]}),
]
_Count = Annotated[int, Field(ge=0, le=2_147_483_647)]
_DEFAULTS = settings.Settings()
_LIMITS, _TIMEOUTS = _DEFAULTS.limits, _DEFAULTS.timeouts


class Limits(Model):
    head_bytes: _HeadSize = _LIMITS.head_bytes
    head_fields: Annotated[int, Field(ge=8, le=1024)] = _LIMITS.head_fields
    target_bytes: _TargetSize = _LIMITS.target_bytes
    body_bytes: Size = _LIMITS.body_bytes
    connections: _Count = _LIMITS.connections
    connections_per_address: _Count = _LIMITS.connections_per_address
    requests: _Count = _LIMITS.requests
    pipelined: Annotated[int, Field(ge=1, le=1024)] = _LIMITS.pipelined


class Timeouts(Model):
    handshake: Duration = format_duration(_TIMEOUTS.handshake)
    head: Duration = format_duration(_TIMEOUTS.head)
    keep_alive: Duration = format_duration(_TIMEOUTS.keep_alive)


class AccessLog(Model):
    mode: _Mode = _DEFAULTS.access_log.mode
    sample: Annotated[float, Field(gt=0, le=1)] = _DEFAULTS.access_log.sample


class RetryBudget(Model):
    percent: Annotated[int, Field(ge=0, le=100)] = _DEFAULTS.retry_budget.percent
    per_second: _Count = _DEFAULTS.retry_budget.per_second


class StoreTls(Model):
    enabled: bool = _DEFAULTS.store.tls
    server_name: str = _DEFAULTS.store.server_name


class Store(Model):
    """What is secret of it comes by other ways."""

    address: Annotated[str, AfterValidator(_endpoint)] = _DEFAULTS.store.address
    database: Annotated[int, Field(ge=0, le=1_000_000)] = _DEFAULTS.store.database
    username: str = _DEFAULTS.store.username
    tls: StoreTls = StoreTls()


class SettingsFile(Model):
    trusted_proxies: tuple[_Network, ...] = ()
    proxy_protocol: bool = _DEFAULTS.proxy_protocol
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    access_log: AccessLog = AccessLog()
    retry_budget: RetryBudget = RetryBudget()
    store: Store = Store()


def parse_settings(content: Any) -> settings.Settings:
    """The settings that a file's content, as YAML or JSON gives it, says. Raises InvalidObject.

    An empty file says nothing: the defaults.
    """
    if content is not None and not isinstance(content, Mapping):
        raise InvalidObject([Problem("", "must be a mapping of fields")])
    try:
        text = json.dumps(content or {}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidObject([Problem("", f"holds what JSON cannot: {error}")]) from None
    try:
        given = SettingsFile.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidObject(list(found_in(error, SettingsFile, SettingsFile, ""))) from None
    limits = given.limits
    sizes = {name: parse_size(getattr(limits, name)) for name in ("head_bytes", "target_bytes", "body_bytes")}
    times = {name: parse_duration(text) for name, text in given.timeouts.model_dump().items()}
    return settings.Settings(
        trusted_proxies=given.trusted_proxies,
        proxy_protocol=given.proxy_protocol,
        limits=settings.Limits(**{**limits.model_dump(), **sizes}),
        timeouts=settings.Timeouts(**times),
        access_log=settings.AccessLog(**given.access_log.model_dump()),
        retry_budget=settings.RetryBudget(**given.retry_budget.model_dump()),
        store=settings.Store(
            address=given.store.address,
            database=given.store.database,
            username=given.store.username,
            tls=given.store.tls.enabled,
            server_name=given.store.tls.server_name,
        ),
    )
