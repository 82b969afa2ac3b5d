"""Valid specs, as YAML gives them, for property tests."""

from hypothesis import strategies as st

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
TOKENS = st.from_regex(r"s[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,10}", fullmatch=True)
DURATIONS = st.from_regex(r"([1-9][0-9]{0,3}(h|m|s|ms)){1,3}", fullmatch=True)
PORTS = st.integers(1, 65535) | st.from_regex(r"[0-9]?[a-z]{1,5}", fullmatch=True)
HOSTS = st.from_regex(r"(\*\.)?[a-z0-9]{1,5}\.example\.com", fullmatch=True)
PATHS = st.from_regex(r"/[A-Za-z0-9/%._~-]{0,20}", fullmatch=True)


def some(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


VALUES = some(
    {"name": TOKENS, "value": st.text("abc .*[]é", min_size=1, max_size=20)},
    type=st.sampled_from(["Exact", "RegularExpression"]),
)
MATCHES = some(
    {},
    path=some({}, type=st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]), value=PATHS),
    method=st.sampled_from(["GET", "M-SEARCH"]),
    headers=st.lists(VALUES, max_size=3),
    queryParams=st.lists(VALUES, max_size=3),
)
BACKEND_TLS = some(
    {},
    serverName=st.just("web.internal"),
    caRef=some({"kind": st.sampled_from(["ConfigMap", "Secret"]), "name": NAMES}),
)
BACKENDS = st.lists(
    some({"service": NAMES, "port": PORTS}, weight=st.integers(0, 1_000_000), tls=BACKEND_TLS),
    min_size=1,
    max_size=3,
    unique_by=lambda backend: (backend["service"], backend["port"]),
)
HEADERS = st.lists(
    some({"name": TOKENS, "value": st.from_regex(r"[!-~]([ \t!-~]{0,9}[!-~])?", fullmatch=True)}),
    max_size=2,
    unique_by=lambda header: header["name"],
)
MODIFIERS = some({"remove": st.lists(TOKENS, min_size=1, max_size=2, unique=True)}, set=HEADERS, add=HEADERS)
FULL_PATH = some({"type": st.just("ReplaceFullPath"), "replaceFullPath": PATHS})
CHANGES = {
    "requestHeaderModifier": ("RequestHeaderModifier", MODIFIERS),
    "responseHeaderModifier": ("ResponseHeaderModifier", MODIFIERS),
    "urlRewrite": (
        "URLRewrite",
        some({"path": FULL_PATH}, hostname=st.just("a.example.com")),
    ),
}
FILTERS = st.lists(
    st.sampled_from(sorted(CHANGES)).flatmap(
        lambda member: some({"type": st.just(CHANGES[member][0]), member: CHANGES[member][1]})
    ),
    max_size=3,
    unique_by=lambda change: change["type"],
)
SIZES = st.integers(0, 10**12 - 1) | st.from_regex(r"[1-9][0-9]{0,3}(k|M|G|Ki|Mi|Gi)?", fullmatch=True)
FAILOVER = some({}, hold=DURATIONS, notifyHeader=st.just("X-Lost")) | some(
    {"mode": st.just("Reject")}, status=st.integers(400, 599)
)
COMMON = {
    "bindTo": st.sampled_from(["Pod", "StatefulPod"]),
    "epoch": st.integers(0, 2_147_483_647),
    "failover": FAILOVER,
    "drainTimeout": DURATIONS,
    "limits": some({}, maxSessionsPerPod=st.integers(0, 9)),
}
COOKIE = some(
    {"absoluteTimeout": st.just("99999h")},
    type=st.just("Cookie"),
    idleTimeout=DURATIONS,
    cookie=some(
        {},
        path=st.just("/shop"),
        domain=st.just("example.com"),
        sameSite=st.sampled_from(["Strict", "Lax", "None"]),
        secure=st.sampled_from(["Auto", "Always"]),
        httpOnly=st.booleans(),
        partitioned=st.booleans(),
        lifetimeType=st.sampled_from(["Session", "Permanent"]),
    ),
    **COMMON,
)
OTHERS = (
    some({"type": st.sampled_from(["None", "SourceIP"])}, **COMMON)
    | some({"type": st.just("QueryParam"), "sessionName": TOKENS}, **COMMON)
    | some({"type": st.just("Header"), "sessionName": TOKENS}, idleTimeout=DURATIONS, **COMMON)
    | some(
        {
            "type": st.just("AppCookie"),
            "sessionName": TOKENS,
            "learn": some({"from": st.just("ResponseCookie")}, mode=st.just("Envelope")),
        },
        absoluteTimeout=DURATIONS,
        **COMMON,
    )
)
PERSISTENCE = COOKIE | OTHERS
RULES = st.lists(
    some(
        {"name": NAMES.map(lambda name: f"rule-{name}"), "backends": BACKENDS},
        matches=st.lists(MATCHES, min_size=1, max_size=3),
        persistence=PERSISTENCE,
        filters=FILTERS,
        timeouts=some(
            {},
            request=DURATIONS,
            connect=DURATIONS,
            firstByte=DURATIONS,
            bodyIdle=DURATIONS,
            idle=DURATIONS,
        ),
        limits=some(
            {},
            bodySize=SIZES,
            requestsPerEndpoint=st.integers(0, 9),
            queue=st.integers(0, 9),
            queueTimeout=DURATIONS,
        ),
        retries=some({}, attempts=st.integers(0, 5), retryOn=st.just(["connect-failure"])),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda rule: rule["name"],
).filter(
    lambda rules: (
        not {rule["name"] for rule in rules}
        & {backend["service"] for rule in rules for backend in rule["backends"]}
    )
)
SPECS = some(
    {"rules": RULES},
    className=NAMES,
    hosts=st.lists(HOSTS, max_size=4, unique=True),
    tls=some({"secretName": NAMES}, redirect=st.booleans()),
    loadBalancing=some(
        {"algorithm": st.just("Hash"), "hashOn": some({"type": st.just("Cookie"), "name": TOKENS})}
    )
    | some({}, algorithm=st.sampled_from(["RoundRobin", "Random"]), slowStart=DURATIONS)
    | some(
        {"algorithm": st.just("LeastSessions")},
        choices=st.integers(0, 16),
        zone=st.sampled_from(["Any", "Prefer"]),
    ),
    persistence=PERSISTENCE,
    healthCheck=some(
        {},
        active=some({}, path=PATHS, healthy=st.integers(1, 9)),
        passive=some({}, ejectFor=DURATIONS),
    ),
    overrides=st.lists(
        some({"pod": NAMES, "action": st.sampled_from(["Drain", "Disable"])}),
        max_size=3,
        unique_by=lambda override: override["pod"],
    ),
)
