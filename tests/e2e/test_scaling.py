"""The application changes under load: nothing fails, nothing is done twice, every move has its reason."""

from tests.e2e import kube
from tests.e2e.load import amnesia, failures, moves, sessions, summary


async def test_scaling_and_rollout_lose_nothing(application):
    namespace = application.namespace

    async def scale(replicas):
        await kube.off(kube.kubectl, "-n", namespace, "scale", "deployment/web", f"--replicas={replicas}")
        await kube.off(kube.until, f"{replicas} endpoints", lambda: application.settled(replicas), 90)
        return await kube.off(application.pods)

    async with application.crowd(60) as crowd:
        await crowd.each(2)
        start = set(application.pods())

        async def schedule():
            grown = set(await scale(5))
            shrunk = set(await scale(2))
            await kube.off(kube.kubectl, "-n", namespace, "rollout", "restart", "deployment/web")
            await kube.off(kube.rollout, namespace, "web")
            await kube.off(kube.until, "the new pods", lambda: application.settled(2), 90)
            return grown, shrunk

        grown, shrunk = await crowd.during(100, schedule(), at_least=60)
        records = crowd.records
        print(f"\n{summary(records)}; sessions {dict(sessions(records))}")
        assert len(grown) == 5
        assert start < grown

        assert failures(records) == []
        assert amnesia(records) == []
        unexplained = [
            move for move in moves(records) if move[1] not in (grown - shrunk) | shrunk or not move[3]
        ]
        assert unexplained == []
        assert all(record.notice in (None, "PodTerminated") for record in records)
        # a session moves only when its own pod goes: growing moves none
        went = grown - set(application.pods())
        assert {before for _, before, _, _ in moves(records)} <= went

        seen = application.seen()
        posts = {record.id for record in records if record.method == "POST"}
        assert len(posts) > 1000
        twice = {name: pods for name, pods in seen.items() if len(pods) > 1}
        assert twice == {}
        assert posts <= seen.keys(), "an answered POST that no backend saw"
