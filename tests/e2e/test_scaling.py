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
            assert moves(crowd.records) == [], "growing moves no session"
            shrunk = set(await scale(2))
            went = {before for _, before, _, _ in moves(crowd.records)}
            assert went <= grown - shrunk, "a session moves only when its own pod goes"
            await kube.off(kube.kubectl, "-n", namespace, "rollout", "restart", "deployment/web")
            await kube.off(kube.rollout, namespace, "web")
            await kube.off(kube.until, "the new pods", lambda: application.settled(2), 90)
            return grown

        grown = await crowd.during(100, schedule(), at_least=60)
        records = crowd.records
        print(f"\n{summary(records)}; sessions {dict(sessions(records))}")
        assert len(grown) == 5
        assert start < grown

        assert failures(records) == []
        assert amnesia(records) == []
        assert all(notice for *_, notice in moves(records)), "a move that the application was not told of"
        assert all(record.notice in (None, "PodTerminated") for record in records)
        # the rollout replaced what was left
        assert {before for _, before, _, _ in moves(records)}.isdisjoint(application.pods())

        seen = application.seen()
        posts = [record for record in records if record.method == "POST"]
        assert len(posts) > 1000
        twice = {name: pods for name, pods in seen.items() if len(pods) > 1}
        assert twice == {}
        unseen = [record for record in posts if record.id not in seen]
        assert unseen == [], "an answered POST that no backend saw"
