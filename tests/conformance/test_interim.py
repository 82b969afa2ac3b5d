from tests.conformance.page import WITH, WITHOUT
from tests.conformance.processes import HERE, differences, serving, told

INTERIM = HERE / "interim.mjs"
LINK = {"link": "</styles.css>; rel=preload; as=style"}
SENT = {
    "interim-102": [102, {}],
    "interim-103": [103, LINK | {"x-my-header": "test"}],
    "interim-not-cached": [103, LINK],
    "interim-no-header-reuse": [103, LINK | {"x-my-header": "test"}],
}


async def test_interim_answers_of_node_reach_node(proxied, node, page):
    async with serving(node, INTERIM, "serve") as port, proxied(port) as through:
        direct = await told(node, INTERIM, "ask", port)
        seen = await told(node, INTERIM, "ask", through)
    print(f"{len(direct)} cases of interim answers")
    for run, turns in ((WITHOUT, direct), (WITH, seen)):
        page.count("Interim answers", run, ((name, _verdict(name, *turns[name])) for name in SENT))
    assert not differences(direct, seen)
    assert {name: first["interims"] for name, (first, _) in seen.items()} == {
        name: [one] for name, one in SENT.items()
    }
    assert not any(turn["reused"] for turns in seen.values() for turn in turns)
    assert not any(second["interims"] for _, second in seen.values())


def _verdict(name, first, second):
    clean = not (first["reused"] or second["reused"] or second["interims"])
    return "as sent" if first["interims"] == [SENT[name]] and clean else "otherwise"
