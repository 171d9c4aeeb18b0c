"""From the address of a server to the addresses of somebody's calendars, without asking any other host."""

from __future__ import annotations

import pytest
from tests.tools.calendar.caldav.conftest import Radicale
from tests.tools.calendar.caldav.odd_server import OddServer, answer

from takeback.tools.calendar.caldav.discovering import Found, discover
from takeback.tools.system import Refused


async def test_from_the_server_alone_all_calendars_of_the_user_are_found(radicale: Radicale):
    server = radicale.url.split("/anna/")[0]
    found = await discover(server, radicale.user, radicale.password)
    assert Found(radicale.url, "Work") in found.calendars
    assert found.elsewhere == ""


async def test_a_wrong_password_finds_nothing_and_says_so(radicale: Radicale):
    with pytest.raises(Refused, match="password"):
        await discover(radicale.url, radicale.user, "wrong")


def _prop(inner: str) -> bytes:
    return answer(
        207,
        (
            '<multistatus xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><response><href>/</href><propstat><prop>'
            f"{inner}</prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
        ).encode(),
    )


async def test_a_home_on_another_host_is_named_and_not_asked(odd: OddServer):
    odd.says(
        "PROPFIND",
        _prop("<current-user-principal><href>/p/</href></current-user-principal>"),
        _prop("<C:calendar-home-set><href>https://p34.example.com/home/</href></C:calendar-home-set>"),
    )
    found = await discover(odd.url, "anna", "secret-word")
    assert (found.calendars, found.elsewhere) == ((), "https://p34.example.com/home/")
    assert [each.path for each in odd.seen] == ["/cal/", "/p/"]


async def test_a_server_that_points_in_circles_is_left(odd: OddServer):
    odd.says("PROPFIND", _prop("<current-user-principal><href>/p/</href></current-user-principal>"))
    with pytest.raises(Refused, match="does not say"):
        await discover(odd.url, "anna", "secret-word")


async def test_lists_of_tasks_are_left_out(odd: OddServer):
    odd.says(
        "PROPFIND",
        _prop("<C:calendar-home-set><href>/home/</href></C:calendar-home-set>"),
        _prop(
            "<resourcetype><collection/><C:calendar/></resourcetype>"
            '<C:supported-calendar-component-set><C:comp name="VTODO"/></C:supported-calendar-component-set>'
        ),
    )
    assert (await discover(odd.url, "anna", "secret-word")).calendars == ()
