"""A preStop hook: waits until this pod's sessions are gone, or their time is up (docs/draining.md)."""

import os
import time
from urllib.error import HTTPError
from urllib.request import urlopen

URL = "http://stickyroute-drain.stickyroute:9091/v1/drain/{POD_NAMESPACE}/{POD_NAME}?wait=30s"

while True:
    try:
        urlopen(URL.format(**os.environ), timeout=40)
        break
    except OSError as error:
        if isinstance(error, HTTPError) and error.code == 404:
            break
        time.sleep(1)
