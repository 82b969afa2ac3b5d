"""`helm test`: the proxies answer, and with the demo installed 50 requests of one session reach one pod."""

# ruff: noqa: ANN001, ANN201, INP001, S310, T201 - a script in a pod, with our own URL
import http.client
import json
import os
import time
import urllib.error
import urllib.request

URL, HOST = os.environ["URL"], os.environ["HOST"]
PATIENCE = float(os.environ.get("PATIENCE", "30"))
"""Seconds for what was just installed: nodes and proxies learn of it a moment later."""
FAULTS = (OSError, http.client.HTTPException)


def get(path, cookie=""):
    """One request on a connection of its own, so that several proxies see the session."""
    headers = {"Host": HOST or "stickyroute.test", "Cookie": cookie}
    try:
        return urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers), timeout=10)
    except urllib.error.HTTPError as answer:
        return answer


def first():
    """The status of the first answer that will do, or of the last; FAULTS where there was none to the end."""
    until = time.monotonic() + PATIENCE
    while True:
        late = time.monotonic() > until
        try:
            status = get("/whoami").status
            if late or status == 200 or (not HOST and status < 500):
                return status
        except FAULTS:
            if late:
                raise
        time.sleep(0.5)


def session():
    """The pods that 50 requests of one session reached."""
    cookies, pods = {}, []
    for _ in range(50):
        answer = get("/whoami", "; ".join(cookies.values()))
        if answer.status != 200:
            raise SystemExit(f"{HOST} answers {answer.status}")
        pods.append(json.load(answer)["pod"])
        for fresh in answer.headers.get_all("Set-Cookie", []):
            cookies[fresh.partition("=")[0]] = fresh.partition(";")[0]
    return sorted(set(pods))


try:
    status = first()
    if not HOST:
        if status >= 500:
            raise SystemExit(f"the proxies answer {status}")
        print(f"the proxies answer ({status}: no demo is installed to ask for more)")
    elif len(pods := session()) != 1:
        raise SystemExit(f"one session reached {len(pods)} pods: {', '.join(pods)}")
    else:
        print(f"50 requests of one session reached {pods[0]}")
except FAULTS as error:
    raise SystemExit(f"the proxies at {URL} do not answer: {error}") from None
