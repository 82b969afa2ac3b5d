"""What goes wrong with one proxy again and again: told when it begins, and when it becomes another thing."""

import logging
import os
import ssl

import aiohttp


class Complaint:
    """One that may have to be made of a proxy."""

    def __init__(self, logger: logging.Logger, text: str, failures: tuple[type[Exception], ...]) -> None:
        """`text`: what is amiss, to be followed by why; all but `failures` are defects."""
        self._logger = logger
        self._text = text
        self._failures = failures
        self._told = ""

    def failed(self, error: Exception) -> None:
        """It is amiss; a defect is told with its traceback."""
        told = words(error)
        if told != self._told:
            defect = not isinstance(error, self._failures)
            level = logging.ERROR if defect else logging.INFO
            self._logger.log(level, "%s: %s", self._text, told, exc_info=error if defect else None)
        self._told = told

    def over(self) -> None:
        """It is well again."""
        self._told = ""


def words(error: Exception) -> str:
    """What is told of an error: in logs, and in routes' status."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):  # its own words show the TLS context object
        cause = error.os_error
        number = 0 if isinstance(cause, ssl.SSLError) else cause.errno or 0
        why = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        return f"no connection to {error.host} port {error.port}: {why}"
    return str(error) or type(error).__name__
