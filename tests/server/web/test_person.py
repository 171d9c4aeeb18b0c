"""A person at the page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from tests.server.web.world import AGENT, Page, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAID = "This is <b>bold</b><script>document.title='owned'</script>\u202eevil\u200b<img src=x onerror=alert(1)>"
"""What a model, a file or a stranger might call something."""


@dataclass
class Person:
    """Somebody at a browser that the page knows."""

    tab: Any
    page: Page
    complaints: list[str] = field(default_factory=list)
    """What the browser said on its console, breaches of the content security policy among it."""

    async def at(self, place: str = "/") -> Any:
        answer = await self.tab.goto(self.page.url(place))
        assert answer.status == 200, (place, await self.text())
        return answer

    async def press(self, words: str) -> None:
        await self.tab.get_by_role("button", name=words, exact=True).click()
        await self.tab.wait_for_load_state()

    async def follow(self, words: str) -> None:
        await self.tab.get_by_role("link", name=words).first.click()
        await self.tab.wait_for_load_state()

    async def text(self) -> str:
        return await self.tab.inner_text("main")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(browser: Any, page: Page) -> AsyncGenerator[Person]:
    context = await browser.new_context()
    context.set_default_timeout(10_000)
    tab = await context.new_page()
    known = Person(tab, page)
    tab.on("console", lambda message: known.complaints.append(message.text))
    tab.on("pageerror", lambda error: known.complaints.append(str(error)))
    await tab.goto(page.entry)
    yield known
    await context.close()


@pytest.fixture(autouse=True)
def _nothing_to_complain_about(person: Person) -> Any:
    person.complaints.clear()
    yield
    assert person.complaints == []


# --- what a person does -----------------------------------------------------------------------------------------------------


async def test_the_key_of_the_address_is_gone_from_it_once_the_browser_is_known(person: Person):
    await person.at()
    assert "key" not in person.tab.url
    [cookie] = await person.tab.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == person.page.base + "/"
    assert await person.tab.evaluate("document.cookie") == ""


async def test_an_approved_call_goes_through_when_it_is_repeated_once(world: World, person: Person):
    run_id = await world.run()
    await world.asks(run_id, "the report is out")
    await person.at()
    assert '{"text":"the report is out"}' in await person.text()
    await person.press("Approve, once")
    assert "Approved." in await person.text()
    assert (await world.call(run_id, "announce", text="the report is out")).status == "applied"
    assert (await world.call(run_id, "announce", text="the report is out")).status == "pending_approval"


async def test_a_refused_call_stays_refused(world: World, person: Person):
    run_id = await world.run()
    question = await world.asks(run_id, "do not say this")
    await person.at(f"/approvals/{question}")
    await person.press("Refuse")
    assert (await world.call(run_id, "announce", text="do not say this")).status == "denied"
    await person.at(f"/approvals/{question}")
    assert "You refused." in await person.text()


async def test_a_conflict_shows_its_three_versions_and_what_is_written_stands_there(world: World, person: Person):
    _, item = await world.conflict()
    await person.at(f"/open/{item}")
    for which, words in (("Before", "two"), ("Agent's", "two of the agent"), ("Now", "two of a person")):
        region = person.tab.get_by_role("region", name=re.compile(f"^{which}"))
        assert words in (await region.inner_text()).replace("≠ ", "").split("\n")[1]
    await person.tab.get_by_label("Or write what shall stand there:").fill("one\n\ttwo ü\nthree\n")
    await person.press("Write this")
    assert "Settled." in await person.text()
    assert (world.site / "plan.txt").read_bytes() == "one\n\ttwo ü\nthree\n".encode()


@pytest.mark.parametrize(
    ("words", "content"),
    [("Leave it as it is now", "one\ntwo of a person\nthree\n"), ("Put the earlier version back", "one\ntwo\nthree\n")],
)
async def test_a_conflict_ends_as_the_person_chose(world: World, person: Person, words: str, content: str):
    name = f"choice {len(words)}.txt"
    await world.conflict(name)
    await person.at("/open")
    await person.follow(f"site/{name}")
    await person.press(words)
    assert (world.site / name).read_text() == content
    assert await world.engine.open_items(AGENT) == []


@pytest.mark.parametrize(("words", "stands"), [("It happened", True), ("It did not happen", False)])
async def test_a_doubt_is_settled_by_what_the_person_knows(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch, words: str, stands: bool
):
    def cut(step: str) -> None:
        if step == "posted":
            raise ConnectionError("the board is away")

    async def nobody_knows(memo: Any) -> Any:
        raise ConnectionError("the board is still away")

    run_id = await world.run("Post a note")
    asked = await world.call(run_id, "post_note", text=words)
    await world.engine.approve(AGENT, asked.approval_id or "", lane="test")
    monkeypatch.setattr(world.engine.core.systems["memory"], "on_step", cut)
    monkeypatch.setattr(world.engine.core.tools["post_note"], "happened", nobody_knows)
    assert (await world.call(run_id, "post_note", text=words)).status == "in_doubt"
    await person.at("/open")
    await person.tab.locator("main ul.rows a").click()
    assert "Nobody knows whether this act took effect." in await person.text()
    await person.press(words)
    assert "Settled." in await person.text()
    [action] = (await world.engine.get_run(AGENT, run_id)).actions
    assert action["stands"] is stands


async def test_a_run_is_taken_back_and_brought_back_after_its_plan_was_seen(world: World, person: Person):
    run_id = await world.run("Write two pages")
    await world.done(run_id, "write_file", path="first.txt", content="first\n")
    await world.done(run_id, "write_file", path="second.txt", content="second\n")
    await person.at(f"/runs/{run_id}")
    await person.follow("Take all of it back …")
    plan = await person.text()
    assert "Nothing has been done yet." in plan
    assert "restored" not in plan
    assert (world.site / "first.txt").exists()
    await person.press("Take it back")
    told = await person.text()
    assert "complete" in told
    assert told.count("restored") == 2
    assert not (world.site / "first.txt").exists()
    await person.follow("Bring it back …")
    await person.press("Bring it back")
    assert (world.site / "first.txt").read_text() == "first\n"
    assert (world.site / "second.txt").read_text() == "second\n"


async def test_a_plan_that_changed_is_shown_again_instead_of_being_done(world: World, person: Person):
    run_id = await world.run("Write more pages")
    await world.done(run_id, "write_file", path="early.txt", content="early\n")
    await person.at(f"/runs/{run_id}/rollback")
    await world.done(run_id, "write_file", path="late.txt", content="late\n")
    await person.press("Take it back")
    told = await person.text()
    assert "something changed since the plan was shown" in told
    assert "late.txt" in told
    assert (world.site / "early.txt").exists()
    await person.press("Take it back")
    assert not (world.site / "early.txt").exists()
    assert not (world.site / "late.txt").exists()


async def test_chosen_acts_and_what_came_after_one_are_taken_back_alone(world: World, person: Person):
    run_id = await world.run("Write three pages")
    for name in ("a", "b", "c"):
        await world.done(run_id, "write_file", path=f"{name}.txt", content=name)
    await person.at(f"/runs/{run_id}")
    await person.tab.get_by_role("checkbox", name="Created b.txt").check()
    await person.press("Take the chosen ones back …")
    await person.press("Take it back")
    assert [name for name in "abc" if (world.site / f"{name}.txt").exists()] == ["a", "c"]
    await person.at(f"/runs/{run_id}")
    await person.follow("Back to here, after: Created a.txt")
    await person.press("Take it back")
    assert [name for name in "abc" if (world.site / f"{name}.txt").exists()] == ["a"]
    await person.at(f"/runs/{run_id}")
    await person.press("Take the chosen ones back …")
    assert "No act was chosen." in await person.text()
    person.complaints.clear()  # the browser notes that the answer was a refusal


async def test_a_run_is_stopped_and_let_go_on(world: World, person: Person):
    run_id = await world.run("Tidy up")
    await person.at(f"/runs/{run_id}")
    await person.tab.get_by_label("Why (stands in the journal)").fill("It deletes too much")
    await person.press("Stop this run")
    assert "contained" in await person.text()
    assert (await world.call(run_id, "write_file", path="n.txt", content="n")).status != "applied"
    await person.at()
    await person.follow("Tidy up")
    report = await person.text()
    assert "It deletes too much" in report
    assert report.index("First:") < report.index("What happened when")
    await person.press("Let it go on")
    assert (await world.call(run_id, "write_file", path="n.txt", content="n")).status == "applied"


async def test_a_run_is_taken_over_and_returned_with_what_the_person_changed(world: World, person: Person):
    run_id = await world.run("Draft a letter")
    await world.done(run_id, "write_file", path="letter.txt", content="Dear Bob")
    await person.at(f"/runs/{run_id}")
    await person.press("Take this run over")
    assert "The run is yours." in await person.text()
    assert (await world.call(run_id, "write_file", path="m.txt", content="m")).status != "applied"
    (world.site / "letter.txt").write_text("Dear Alice")
    await person.tab.get_by_label("What its agent should know").fill("It goes to Alice")
    await person.press("Return it to its agent")
    told = await person.text()
    assert "changed" in told
    assert "letter.txt" in told
    assert (await world.call(run_id, "write_file", path="m.txt", content="m")).status == "applied"
    newest = (await world.engine.list_checkpoints(AGENT, run_id=run_id)).checkpoints[1]
    assert newest.label == "returned"


async def test_held_mail_is_read_and_cancelled(world: World, person: Person):
    run_id = await world.run("Mail the report")
    message = await world.letter(run_id, subject="The report is done", body="Größe: 1 €\n")
    await person.at("/mail")
    await person.follow("The report is done")
    assert "Größe: 1 €" in await person.tab.get_by_role("region", name="The text of the message").inner_text()
    await person.press("Hold")
    await person.press("Cancel it: it does not go out")
    assert "will not go out" in await person.text()
    assert (await world.engine.desk.row(AGENT, message)).status == "CANCELLED"


async def test_held_mail_is_changed_before_it_goes_out(world: World, person: Person):
    message = await world.letter(await world.run("Mail the report"), subject="Teh report", body="<b>Größe</b>: 1 €\n")
    await person.at(f"/mail/{message}")
    await person.tab.get_by_text("Change it before it goes out").click()
    box = person.tab.get_by_label("Recipients, subject, an empty line, the text:")
    written = await box.input_value()
    assert written == "To: bob@example.org\nCc: \nBcc: \nSubject: Teh report\n\n<b>Größe</b>: 1 €\n"
    await box.fill(written.replace("Teh", "The").replace("To: bob@", "To: carol@"))
    await person.press("Let it go out like this")
    assert "goes out as you left it" in await person.text()
    row = await world.engine.desk.row(AGENT, message)
    assert (row.status, row.message.subject, row.message.recipients) == ("HELD", "The report", ("carol@example.org",))


async def test_an_act_that_waits_like_mail_is_read_and_cancelled(world: World, person: Person):
    run_id = await world.run("Post it later")
    await world.done(run_id, "post_later", text="Do this later")
    [row] = [row for row in await world.engine.desk.rows(AGENT) if row.run_id == run_id]
    await person.at(f"/mail/{row.id}")
    told = await person.text()
    assert "post_later" in told
    assert "Do this later" in await person.tab.get_by_role("region", name="What the tool will be given").inner_text()
    await person.press("Cancel it: it does not go out")
    assert (await world.engine.desk.row(AGENT, row.id)).status == "CANCELLED"


# --- without a mouse, without seeing it ------------------------------------------------------------------------------------


async def test_a_question_is_answered_with_the_keyboard_alone(world: World, person: Person):
    run_id = await world.run()
    await world.asks(run_id, "by keyboard")
    await person.at()
    keys = person.tab.keyboard
    await keys.press("Tab")
    assert await person.tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    await keys.press("Enter")
    passed: list[str] = []
    for _ in range(30):
        await keys.press("Tab")
        passed.append(await person.tab.evaluate("document.activeElement.textContent"))
        if passed[-1] == "Approve, once":
            break
    assert passed[-1] == "Approve, once", passed
    assert "takeback" not in passed, "the link at the top leads past the header"
    assert await person.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    await keys.press("Enter")
    await person.tab.wait_for_url("**said=approved")
    assert (await world.call(run_id, "announce", text="by keyboard")).status == "applied"


CHECK = """() => {
  const problems = [];
  const seen = element => element.getClientRects().length > 0;
  const one = (what, found) => { if (found.length !== 1) problems.push(`${found.length} ${what}`); };
  one('main', document.querySelectorAll('main'));
  one('h1', document.querySelectorAll('h1'));
  if (document.documentElement.lang !== 'en') problems.push('no language');
  if (!document.title) problems.push('no title');
  let last = 0;
  for (const heading of document.querySelectorAll('h1,h2,h3,h4')) {
    const level = Number(heading.tagName[1]);
    if (level > last + 1) problems.push(`h${level} after h${last}: ${heading.textContent}`);
    last = level;
  }
  const ids = [...document.querySelectorAll('[id]')].map(each => each.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) problems.push(`twice: ${id}`);
  for (const label of document.querySelectorAll('label[for]'))
    if (!document.getElementById(label.htmlFor)) problems.push(`label of nothing: ${label.textContent}`);
  for (const each of document.querySelectorAll('[tabindex]'))
    if (each.tabIndex > 0) problems.push('an order of its own');
  const light = colour => {
    const parts = colour.match(/[0-9.]+/g).map(Number);
    const [r, g, b] = parts.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return { value: 0.2126 * r + 0.7152 * g + 0.0722 * b, solid: parts.length < 4 || parts[3] > 0 };
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = light(getComputedStyle(at).backgroundColor);
      if (found.solid) return found.value;
    }
    return 1;
  };
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !seen(element) || element.closest('script,noscript,.skip')) continue;
    const a = light(getComputedStyle(element).color).value, b = behind(element);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) problems.push(`contrast ${contrast.toFixed(2)}: ${element.textContent.trim().slice(0, 40)}`);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) problems.push(`${wide} wide, in ${innerWidth}`);
  return problems;
}"""


async def _named(person: Person) -> list[str]:
    """Controls that a screen reader would have no name for, as the browser's own accessibility tree says it."""
    session = await person.tab.context.new_cdp_session(person.tab)
    tree = await session.send("Accessibility.getFullAXTree")
    await session.detach()
    controls = {"button", "link", "textbox", "checkbox", "combobox", "region", "navigation", "searchbox"}
    return [
        node["role"]["value"]
        for node in tree["nodes"]
        if not node.get("ignored")
        and node.get("role", {}).get("value") in controls
        and not node.get("name", {}).get("value", "").strip()
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(world: World) -> list[str]:
    """Each kind of page, with names on it that want to do harm."""
    run_id = await world.run(f"Goal {SAID}", steps=[f"Step {SAID}"])
    await world.done(run_id, "write_file", path="own.txt", content=f"{SAID}\n")
    await world.done(run_id, "write_file", path="<b>bold<b>\u202e.txt", content="x\n")
    mail = await world.letter(run_id, subject="<script>alert(1)</script>", body=SAID.replace("\u202e", ""))
    question = await world.asks(run_id, SAID)
    _, item = await world.conflict("harm.txt")
    other = AGENT.model_copy(update={"client": "other"})  # what is stopped makes later runs of its client read-only
    stopped = await world.run("Stopped", caller=other)
    await world.done(stopped, "write_file", caller=other, path="s.txt", content="s")
    await world.engine.contain_run(AGENT, stopped, SAID)
    back = await world.engine.rollback(AGENT, run_id=stopped)
    own = [f"/runs/{run_id}{rest}" for rest in ("", "/changes", "/report", "/rollback")]
    return ["/", "/runs", "/mail", "/open", "/approvals", *own, f"/mail/{mail}", f"/approvals/{question}", f"/open/{item}",
            f"/runs/{stopped}", f"/rollbacks/{back.rollback_id}", f"/rollbacks/{back.rollback_id}/redo"]  # fmt: skip


async def test_every_kind_of_page_can_be_used_by_everybody_and_no_text_is_markup(person: Person, places: list[str]):
    found: dict[str, Any] = {}
    for scheme, width in (("light", 320), ("dark", 1280)):  # 320: a window of 1280 at 400 per cent
        await person.tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await person.tab.set_viewport_size({"width": width, "height": 800})
        for place in places:
            await person.at(place)
            html = await person.tab.content()
            found[f"{scheme} {place}"] = await person.tab.evaluate(CHECK) + await _named(person)
            assert await person.tab.locator("main b, main script, main img").count() == 0, place
            assert "\u202e" not in html and "\u200b" not in html, place
            assert await person.tab.title() != "owned"
    assert {place: problems for place, problems in found.items() if problems} == {}


async def test_the_page_works_without_its_script(world: World, browser: Any, person: Person):
    run_id = await world.run()
    question = await world.asks(run_id, "without a script")
    context = await browser.new_context(java_script_enabled=False)
    await context.add_cookies(await person.tab.context.cookies())
    tab = await context.new_page()
    await tab.goto(person.page.url(f"/approvals/{question}"))
    await tab.get_by_role("button", name="Approve, once").click()
    assert "Approved." in await tab.inner_text("main")
    assert (await world.call(run_id, "announce", text="without a script")).status == "applied"
    await context.close()


async def test_what_happens_meanwhile_is_told_on_a_page_that_is_open(world: World, person: Person):
    run_id = await world.run("Something to look at")
    await person.at(f"/runs/{run_id}")
    await world.done(run_id, "write_file", path="meanwhile.txt", content="m")
    news = person.tab.get_by_role("status").get_by_text("Something has happened")
    await news.wait_for()
    await person.follow("Show how it is now")
    assert "meanwhile.txt" in await person.text()


async def test_a_browser_without_the_cookie_is_a_stranger(browser: Any, person: Person):
    context = await browser.new_context()
    tab = await context.new_page()
    answer = await tab.goto(person.page.url("/runs"))
    assert answer.status == 401
    assert "Who are you?" in await tab.inner_text("main")
    await context.close()


async def test_a_page_elsewhere_can_neither_frame_it_nor_send_its_forms(world: World, browser: Any, person: Person):
    """The other page is one on the same machine at another port: to cookies it is the same site."""
    run_id = await world.run()
    question = await world.asks(run_id, "from elsewhere")
    context = await browser.new_context()
    await context.add_cookies(await person.tab.context.cookies())
    tab = await context.new_page()
    evil = "http://127.0.0.1:9/evil"
    target = person.page.url(f"/approvals/{question}")
    html = (
        f"<iframe src='{target}'></iframe><form method=post action='{target}/approve'><button>win</button></form>"
        f"<script>fetch('{target}/approve', {{method: 'POST', credentials: 'include', mode: 'no-cors',"
        " headers: {'content-type': 'application/x-www-form-urlencoded'}, body: 'form=x'}).catch(() => {})</script>"
    )
    await tab.route(evil, lambda route: route.fulfill(content_type="text/html", body=html))
    await tab.goto(evil)
    assert "An agent asks" not in await tab.frames[-1].content()
    await tab.get_by_role("button", name="win").click()
    await tab.wait_for_load_state()
    assert "may not address this page" in await tab.inner_text("body")
    assert (await world.call(run_id, "announce", text="from elsewhere")).status == "pending_approval"
    await context.close()


async def test_signed_out_the_browser_is_a_stranger_again(world: World, browser: Any, page: Page, person: Person):
    from takeback.server.web.address import Address
    from takeback.server.web.entering import entry

    context = await browser.new_context()
    tab = await context.new_page()
    await tab.goto(entry(world.settings, Address(page.port, page.base), "/runs"))
    assert tab.url == page.url("/runs")
    await tab.get_by_role("button", name="Sign this browser out").click()
    assert "Signed out" in await tab.inner_text("main")
    assert (await tab.goto(page.url("/runs"))).status == 401
    await context.close()
