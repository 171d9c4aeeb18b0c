"""What a page elsewhere, another program or another person on this machine can send, and what comes of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server.web.world import AGENT, STRANGER, Answer, Page, Sender, World, page_of, world_in

from takeback.server.engine.engine import Engine
from takeback.server.roots import remember
from takeback.server.settings import RolesSection, WorkspaceSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

Try = Callable[..., Answer]


def token_of(html: str, action: str) -> str:
    """The token of the form that is sent there."""
    assert action in html, html
    [form] = re.findall(
        rf'<form method="post" action="[^"]*{re.escape(action)}"[^>]*>|<form[^>]*{re.escape(action)}[^>]*>', html
    )
    return re.findall(
        r'name="form" value="([^"]+)"', html[: html.index(form)] + html[html.index(form) :].split("</form>")[0]
    )[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(page: Page) -> Sender:
    """Somebody who has the cookie, and sends what no browser would."""
    entered = Sender(page).send("GET", page.entry.partition(str(page.port))[2])
    assert entered.status == 303
    cookie = re.match(r"takeback=([^;]+);", entered.headers["set-cookie"])
    assert cookie is not None
    return Sender(page, cookie[1])


def without_tokens(answer: Answer, id: str) -> str:
    return re.sub(r'name="form" value="[^"]+"', "", answer.text.replace(id, ""))


async def question(world: World, text: str) -> tuple[str, str]:
    run_id = await world.run()
    return run_id, await world.asks(run_id, text)


async def still_asked(world: World, run_id: str, text: str) -> bool:
    return (await world.call(run_id, "announce", text=text)).status == "pending_approval"


async def test_the_key_opens_once_and_the_cookie_is_bound(page: Page, known: Sender):
    again = Sender(page).send("GET", page.entry.partition(str(page.port))[2])
    assert again.status == 403
    assert "set-cookie" not in again.headers
    assert known.get("/").status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:{port}", "0.0.0.0:{port}",
     "", "localhost:{port}@evil.example", "localhost.:{port}"],
)  # fmt: skip
async def test_under_another_name_nothing_is_answered(known: Sender, page: Page, host: str):
    """A page elsewhere can make its own name resolve to this machine."""
    answer = known.get("/", Host=host.format(port=page.port))
    assert (answer.status, b"takeback" in answer.body) == (421, False)


async def test_twice_the_same_header_is_refused(known: Sender, page: Page):
    answer = known.get("/", Cookie=f"takeback={known.cookie}", cookie="takeback=other")
    assert answer.status == 400


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        None,
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://localhost:{port}",
    ],
)
async def test_a_form_from_another_origin_is_refused(world: World, known: Sender, page: Page, origin: str | None):
    run_id, asked = await question(world, f"by {origin}")
    token = token_of(known.get(f"/approvals/{asked}").text, f"/approvals/{asked}/approve")
    sent = origin.format(port=page.port) if origin else origin
    assert known.post(f"/approvals/{asked}/approve", {"form": token}, Origin=sent).status == 403
    assert await still_asked(world, run_id, f"by {origin}")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ],
)
async def test_another_page_may_link_here_and_nothing_else(known: Sender, headers: dict[str, str], status: int):
    assert known.get("/", **headers).status == status


@pytest.mark.parametrize("cookie", ["", "x" * 43, "../../journal.db", "a b", "é"])
async def test_without_the_cookie_nothing_is_shown_or_done(world: World, page: Page, known: Sender, cookie: str):
    run_id, asked = await question(world, f"with {cookie}")
    token = token_of(known.get(f"/approvals/{asked}").text, f"/approvals/{asked}/approve")
    stranger = Sender(page, cookie) if cookie.isascii() else Sender(page)
    for place in ("/", "/runs", f"/approvals/{asked}", "/state"):
        answer = stranger.get(place)
        assert answer.status == 401
        assert run_id not in answer.text
        assert "announce" not in answer.text
    assert stranger.post(f"/approvals/{asked}/approve", {"form": token}).status == 401
    assert await still_asked(world, run_id, f"with {cookie}")


async def test_a_form_is_good_for_its_own_place_and_browser_and_once(world: World, page: Page, known: Sender):
    run_id, asked = await question(world, "first")
    other, other_asked = await question(world, "second")
    place = f"/approvals/{asked}/approve"
    token = token_of(known.get(f"/approvals/{asked}").text, place)
    for wrong in (
        {},
        {"form": ""},
        {"form": token[:-1] + ("1" if token[-1] == "0" else "0")},
        {"form": token.replace(".", ".0", 1)},
        {"token": token},
    ):
        assert known.post(place, wrong).status == 403
    assert known.post(f"/approvals/{other_asked}/approve", {"form": token}).status == 403
    assert await still_asked(world, run_id, "first")
    assert await still_asked(world, other, "second")
    assert known.post(place, {"form": token}).status == 303
    assert (await world.call(run_id, "announce", text="first")).status == "applied"
    again = known.post(place, {"form": token})
    assert again.headers["location"].endswith("/?said=again")
    assert await still_asked(world, run_id, "first")


async def test_a_form_of_another_browser_is_not_taken(world: World, page: Page, known: Sender):
    from takeback.server.web.entering import visitors_of

    visitors = visitors_of(world.settings)
    second = Sender(page, visitors.enter(visitors.key()) or "")
    run_id, asked = await question(world, "for one browser")
    token = token_of(known.get(f"/approvals/{asked}").text, f"/approvals/{asked}/approve")
    assert second.get("/").status == 200
    assert second.post(f"/approvals/{asked}/approve", {"form": token}).status == 403
    assert await still_asked(world, run_id, "for one browser")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_nothing_is_done_by_looking(world: World, known: Sender, method: str):
    run_id, asked = await question(world, f"by {method}")
    token = token_of(known.get(f"/approvals/{asked}").text, f"/approvals/{asked}/approve")
    assert known.send(method, f"{known.page.base}/approvals/{asked}/approve?form={token}").status == 405
    assert await still_asked(world, run_id, f"by {method}")


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("DELETE", 405), ("OPTIONS", 405), ("TRACE", 405)])
async def test_other_methods_are_unknown(known: Sender, method: str, status: int):
    answer = known.send(method, known.page.base + "/")
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers


async def test_a_body_has_an_end_and_is_a_form(known: Sender):
    large = known.send("POST", known.page.base + "/leave", b"form=" + b"x" * 1_600_000)
    assert large.status == 413
    assert known.send("POST", known.page.base + "/leave", b"form=x", Content_Length="9" * 11).status == 413
    assert known.send("POST", known.page.base + "/leave", b"{}", Content_Type="application/json").status == 415
    assert known.send("POST", known.page.base + "/leave", b"form=%ff").status == 400
    assert known.send("POST", known.page.base + "/leave", "form=ü".encode()).status == 400
    assert known.send("POST", known.page.base + "/leave", b"&".join([b"a=b"] * 3000)).status == 400
    assert known.get("/").status == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../site.py", "/static/..%2fsite.py", "/static/%2e%2e/site.py", "/static/..%5csite.py", "/static//etc/passwd",
     "/static/page.css%00.png", "/static/", "/static", "/static/page.css/", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"],
)  # fmt: skip
async def test_no_path_leads_out_of_the_page(known: Sender, path: str):
    answer = known.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


async def test_outside_its_folder_the_page_tells_nothing_not_even_its_folder(page: Page):
    """The cookie is bound to the folder, so that other programs at this address are not sent it."""
    sender = Sender(page)
    for path in ("/", "/static/page.css", "/approvals", f"{page.base}x/", "/enter?key=x", "*", page.base):
        answer = sender.send("GET", path)
        assert answer.status == 404
        assert page.base.encode() not in answer.body or path.startswith(page.base)


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\r\nset-cookie: a=b", "/\u202e"]
)
async def test_the_key_leads_to_no_other_site(world: World, page: Page, to: str):
    from urllib.parse import quote

    from takeback.server.web.entering import visitors_of

    answer = Sender(page).get(f"/enter?key={visitors_of(world.settings).key()}&to={quote(to)}")
    assert answer.status == 303
    assert answer.headers["location"].startswith(page.base + "/")
    assert answer.headers["set-cookie"].startswith("takeback=")


@pytest.mark.parametrize("place", ["/", "/static/page.css", "/nowhere", "/enter?key=x", "/state"])
async def test_every_answer_says_that_it_may_not_be_framed_guessed_or_kept(known: Sender, place: str):
    headers = known.get(place).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


async def test_nothing_of_a_page_comes_from_elsewhere_or_stands_in_it_as_script_or_style(world: World, known: Sender):
    run_id = await world.run("See https://evil.example/x.js")
    html = known.get(f"/runs/{run_id}").text
    assert not re.search(r"\b(?:src|href|action)=\"(?!/)(?!#)", html)
    assert not re.search(r"<style|style=|\bon[a-z]+=|<script(?! src=)", html)


async def test_another_principals_runs_questions_and_mail_are_unknown(world: World, known: Sender):
    theirs = await world.run("Secret plan", caller=STRANGER)
    asked = await world.asks(theirs, "secret words", caller=STRANGER)
    pages = [known.get(place) for place in ("/", "/runs", "/approvals")]
    assert all("Secret plan" not in page.text and "secret words" not in page.text for page in pages)
    for place in (f"/runs/{theirs}", f"/runs/{theirs}/rollback", f"/runs/{theirs}/changes", f"/approvals/{asked}"):
        assert known.get(place).status == 404
    own, _ = await question(world, "own")
    token = token_of(known.get(f"/runs/{own}").text, f"/runs/{own}/contain")
    assert known.post(f"/runs/{own}/contain", {"form": token}).status == 409, "without a reason"
    unknown = known.get(f"/runs/{own[:-4]}aaaa")
    assert unknown.status == 404
    foreign = known.get(f"/runs/{theirs}")
    assert without_tokens(unknown, own[:-4] + "aaaa") == without_tokens(foreign, theirs)


async def test_an_auditor_sees_the_runs_of_others_and_cannot_act_on_them(tmp_path: Path):
    roles = RolesSection(auditors=(AGENT.principal,))
    async with world_in(tmp_path, roles=roles) as world:
        theirs = await world.run("Their plan", caller=STRANGER)
        await world.done(theirs, "write_file", caller=STRANGER, path="theirs.txt", content="x")
        async with page_of(world.settings, tmp_path) as page:
            entered = Sender(page).send("GET", page.entry.partition(str(page.port))[2])
            auditor = Sender(page, entered.headers["set-cookie"].partition("=")[2].partition(";")[0])
            shown = auditor.get(f"/runs/{theirs}")
            assert "Their plan" in shown.text
            assert STRANGER.principal in shown.text
            token = token_of(shown.text, f"/runs/{theirs}/contain")
            refused = auditor.post(f"/runs/{theirs}/contain", {"form": token, "reason": "because"})
            assert refused.status == 404
            assert auditor.get(f"/runs/{theirs}/rollback").status == 404
    async with world_in(tmp_path) as world:
        told = (await world.engine.get_run(STRANGER, theirs, view="journal")).journal or []
        assert [event["by"] for event in told if event["type"] == "run.accessed"] == [AGENT.principal]


async def test_a_consent_for_another_act_cannot_be_slipped_into_a_plan(world: World, known: Sender):
    """A plan can need a consent of its own, which is given by a form that was made for that question alone."""
    run_id, asked = await question(world, "smuggled")
    await world.done(run_id, "write_file", path="smuggled.txt", content="x")
    html = known.get(f"/runs/{run_id}/rollback").text
    digest = re.findall(r'name="digest" value="([^"]+)"', html)[0]
    token = token_of(html, f"/runs/{run_id}/rollback")
    sent = {"form": token, "digest": digest, "consent": asked}
    assert known.post(f"/runs/{run_id}/rollback/consent/{asked}", sent).status == 403
    assert known.post(f"/runs/{run_id}/rollback", sent).status == 303
    [left] = [each for each in await world.engine.approvals(AGENT, status=None) if each.approval_id == asked]
    assert (left.status, left.why, left.by) == ("expired", "the run was rolled back", ""), "nobody agreed to it"


async def test_what_a_server_does_in_a_folder_that_came_later_can_be_taken_back_too(
    world: World, known: Sender, tmp_path: Path
):
    assert known.get("/").status == 200
    later = world.settings.model_copy(update={"workspace": WorkspaceSettings(roots=(tmp_path,))})
    engine = await Engine.open(later, recover=False)
    remember(later.data, later.workspace.roots)
    try:
        other = World(later, engine)
        run_id = await other.run("Elsewhere")
        await other.done(run_id, "write_file", path="new.txt", content="x")
        html = known.get(f"/runs/{run_id}/rollback").text
        digest = re.findall(r'name="digest" value="([^"]+)"', html)[0]
        token = token_of(html, f"/runs/{run_id}/rollback")
        assert known.post(f"/runs/{run_id}/rollback", {"form": token, "digest": digest}).status == 303
    finally:
        await engine.close()
    assert not (tmp_path / "new.txt").exists()


async def test_what_the_page_keeps_is_for_its_owner_only(world: World, known: Sender):
    folder = world.settings.data / "page"
    kept = [folder, *folder.rglob("*")]
    assert known.cookie not in "".join(file.read_text() for file in kept if file.is_file())
    if os.name == "posix":
        assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in kept} == {0}


async def test_a_question_of_a_run_that_has_ended_has_no_buttons_and_says_why_it_is_void(world: World, known: Sender):
    run_id, asked = await question(world, "too late")
    await world.engine.finish_run(AGENT, run_id)
    shown = known.get(f"/approvals/{asked}").text
    assert "It is void: the run has finished." in shown
    assert f"/approvals/{asked}/approve" not in shown
    assert asked not in known.get("/").text


async def test_the_journal_names_the_person_and_the_door(world: World, known: Sender):
    run_id, asked = await question(world, "who was it")
    token = token_of(known.get(f"/approvals/{asked}").text, f"/approvals/{asked}/approve")
    assert known.post(f"/approvals/{asked}/approve", {"form": token}).status == 303
    detail = await world.engine.get_run(AGENT, run_id, view="journal")
    [granted] = [event for event in detail.journal or [] if event["type"] == "approval.granted"]
    assert (granted["by"], granted["lane"]) == (AGENT.principal, "page")
