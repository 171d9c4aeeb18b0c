"""How long after an event people have heard of it: a mail server, a web server and a desktop, all on this machine.

Each round contains a run; measured from that call until the last of the three has its notice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the servers are those of the tests

from _setting import Row, finish, median, p95, say, scaled, scratch
from tests.server.engine.bench import ALICE, settings_for
from tests.server.notices import sinks

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.notices.settings import WebhookSettings
from takeback.server.settings import NotifySection, WebSection
from takeback.server.watching import watched

ROUNDS = scaled(50, 10, "BENCH_NOTICES")
GOAL_MS = 2000.0


async def measured(folder: Path) -> dict[str, list[float]]:
    """Seconds until each channel had it, per round."""
    shown = sinks.desktop(folder / "bin")
    os.environ |= {"PATH": sinks.path_with(folder / "bin"), "OPS_SECRET": "words of any kind"}
    times: dict[str, list[float]] = {"mail": [], "webhook": [], "desktop": []}
    with sinks.web() as web, sinks.mail() as mail:
        hook = WebhookSettings(url=f"{web.url}/hook", secret_variable="OPS_SECRET")
        notify = NotifySection(urls=("desktop://", mail.url), webhooks={"ops": hook})
        settings = settings_for(folder, notify=notify, triggers=TriggerSettings.off(), web=WebSection(on_demand=False))
        engine = await Engine.open(settings)

        async def desktop() -> None:
            while not shown.exists():  # noqa: ASYNC110 -- a program of its own writes it
                await asyncio.sleep(0.002)

        async def timed(name: str, arrival: asyncio.Future[object], begin: float) -> None:
            await arrival
            times[name].append(time.perf_counter() - begin)

        try:
            async with watched(engine.core, settings):
                for _ in range(ROUNDS):
                    run = (await engine.start_run(ALICE, "Tidy up")).run_id
                    shown.unlink(missing_ok=True)
                    begin = time.perf_counter()
                    arrivals = {
                        "mail": sinks.taken(mail.arrived),
                        "webhook": sinks.taken(web.arrived),
                        "desktop": desktop(),
                    }
                    waiting = [timed(name, asyncio.ensure_future(each), begin) for name, each in arrivals.items()]
                    await asyncio.gather(engine.contain_run(ALICE, run, "measured"), *waiting)
        finally:
            await engine.close()
    return times


def main() -> None:
    """Measure and print."""
    with scratch() as folder:
        times = asyncio.run(measured(folder))
    rows = [
        Row(f"a contained run is told by {name}", median(each), "ms", None, "", GOAL_MS, p95=p95(each))
        for name, each in times.items()
    ]
    for name, each in times.items():
        say(f"{name}: at most {1000 * max(each):.0f} ms of {len(each)}")
    finish("notices", rows)


if __name__ == "__main__":
    main()
