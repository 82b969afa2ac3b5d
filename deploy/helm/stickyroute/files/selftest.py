"""`helm test`: the proxies answer, and with the demo installed 50 requests of one session reach one pod."""

# ruff: noqa: ANN001, ANN201, INP001, S310, T201 - a script in a pod, with our own URL
import json
import os
import time
import urllib.error
import urllib.request

URL, HOST = os.environ["URL"], os.environ["HOST"]


def get(path, cookie):
    """One request on a connection of its own, so that several proxies see the session."""
    headers = {"Host": HOST or "stickyroute.test", "Cookie": cookie}
    try:
        return urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers), timeout=10)
    except urllib.error.HTTPError as answer:
        return answer


if not HOST:
    answer = get("/whoami", "")
    if answer.status >= 500:
        raise SystemExit(f"the proxies answer {answer.status}")
    print(f"the proxies answer ({answer.status}: no demo is installed to ask for more)")
else:
    cookies, pods = {}, []
    until = time.monotonic() + 30
    while get("/whoami", "").status == 503 and time.monotonic() < until:  # the demo's pods are just coming up
        time.sleep(0.5)
    for _ in range(50):
        answer = get("/whoami", "; ".join(cookies.values()))
        if answer.status != 200:
            raise SystemExit(f"{HOST} answers {answer.status}")
        pods.append(json.load(answer)["pod"])
        for fresh in answer.headers.get_all("Set-Cookie", []):
            cookies[fresh.partition("=")[0]] = fresh.partition(";")[0]
    if len(set(pods)) != 1:
        raise SystemExit(f"one session reached {len(set(pods))} pods: {', '.join(sorted(set(pods)))}")
    print(f"50 requests of one session reached {pods[0]}")
