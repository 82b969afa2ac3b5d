"""The fleet's settings, as the file says them that the chart mounts, and as it says them later on."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from stickyroute_api.settings import Settings
from stickyroute_api.settingsfile import InvalidObject, parse_settings

logger = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between two looks at the file, which the kubelet writes anew when its ConfigMap has changed."""


class SettingsError(Exception):
    """What is wrong with the file, naming the field and what to do."""


def read(path: Path) -> Settings:
    """The settings that the file says. Raises SettingsError."""
    try:
        return parse_settings(json.loads(path.read_bytes()))
    except InvalidObject as error:
        raise SettingsError(f"{path}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from None


async def follow(path: Path, take: Callable[[Settings], None]) -> None:
    """Give each new content of the file to `take`; of a bad one tell, once, and go on with the last good."""
    told = ""
    while True:
        await asyncio.sleep(POLL)
        try:
            take(read(path))
            told = ""
        except SettingsError as error:
            if str(error) != told:
                told = str(error)
                logger.error(  # noqa: TRY400 - what a person mends, without a traceback
                    "%s: the last good settings stay; mend proxy.settings in the chart's values and upgrade",
                    error,
                )
