"""Mail over SMTP, by aiosmtplib. TLS is verified; the password comes from the keyring or the environment and is never kept.

What is known when it fails is the heart of it. Until the end of the data was sent, nothing has gone out: `NotSent`. A server
that then answers no has not taken it either. A connection that breaks in between leaves nobody who knows, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from takeback.tools.email.carriers import file_copy, lies_in
from takeback.tools.email.credentials import password_of
from takeback.tools.email.send_tool import CARRIER
from takeback.tools.email.settings import MailboxSettings, server
from takeback.tools.email.system import MailSystem
from takeback.tools.outbox.parting import rest_of
from takeback.tools.outbox.port import Carrier, Delivered, NotSent, Outgoing, TakenForSome
from takeback.tools.system import Refused, TargetError, Unavailable

if TYPE_CHECKING:
    import ssl

    import aiosmtplib

SECONDS: Final = 60.0
"""For each answer of the server."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class SmtpCarrier(Carrier):
    """Hands mail to the server of one mailbox."""

    def __init__(
        self,
        mailbox: str,
        settings: MailboxSettings,
        system: MailSystem,
        *,
        environment: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """
        :param context: whom to believe; by default the authorities that the system knows.
        """
        self.name = CARRIER + mailbox
        self._mailbox, self._settings, self._system = mailbox, settings, system
        self._environment = os.environ if environment is None else environment
        self._context, self._seconds = context, seconds

    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        return await self._deliver(message, content, to_all=False)

    async def deliver_to_all(self, message: Outgoing, content: bytes) -> Delivered:
        return await self._deliver(message, content, to_all=True)

    async def _deliver(self, message: Outgoing, content: bytes, *, to_all: bool) -> Delivered:
        try:
            import aiosmtplib
        except ImportError as error:
            raise NotSent(
                "Sending needs aiosmtplib, which is not installed: install takeback with its extra, takeback[email].",
                again=True,
            ) from error
        where = server(self._settings.smtp or "")
        assert where is not None, "checked when the settings were read"
        direct, host, port = where
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            use_tls=direct,
            start_tls=False,
            timeout=self._seconds,
            tls_context=self._trust(),
        )
        try:
            await self._greet(client, direct=direct, host=host)
            taken, refused = await self._envelope(client, message)
            if refused and to_all:
                client.close()  # before the data: for nobody
                raise TakenForSome({to: _refusal(host, to, error) for to, error in refused.items()})
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise NotSent(
                f"{host} refused it ({error.code}): {_plain(error.message)}", again=400 <= error.code < 500
            ) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            raise NotSent(f"{host} could not be reached, or broke off: {_plain(error)}", again=True) from error
        except BaseException:
            client.close()
            raise
        try:
            await client.data(content)
        except aiosmtplib.SMTPDataError as error:
            # the server's own no, to DATA itself or to the end of the data
            raise NotSent(
                f"{host} refused it ({error.code}): {_plain(error.message)}", again=400 <= error.code < 500
            ) from error
        finally:
            client.close()
        told = f"taken by {host} for {', '.join(taken)}"
        if refused:
            told += f"; refused for {'; '.join(f'{to}: {_words(error)}' for to, error in refused.items())}"
        return Delivered(told + await self._keep(message, content))

    async def happened(self, message: Outgoing) -> bool | None:
        # only a copy says anything: a server need not leave one, and ours comes after the server's answer
        if rest_of(message):
            return None  # the copy there is was made when it went to the others
        try:
            found = await lies_in(self._system, self._mailbox, message.reference)
        except TargetError:
            return None
        return True if found else None

    async def _greet(self, client: aiosmtplib.SMTP, *, direct: bool, host: str) -> None:
        await _secured(client, self._trust(), direct=direct, host=host)
        if self._settings.username:
            try:
                password = password_of(self._mailbox, self._settings, self._settings.smtp or "", self._environment)
            except TargetError as error:  # somebody may put it there before the next attempt
                raise NotSent(f"{error} {error.advice}", again=True) from error
            await client.login(self._settings.username, password)

    async def _envelope(
        self, client: aiosmtplib.SMTP, message: Outgoing
    ) -> tuple[list[str], dict[str, aiosmtplib.SMTPRecipientRefused]]:
        """Recipients that the server takes, and those that it refuses with its reason."""
        import aiosmtplib

        await client.mail(message.sender)
        taken: list[str] = []
        refused: dict[str, aiosmtplib.SMTPRecipientRefused] = {}
        for to in message.recipients:
            try:
                await client.rcpt(to)
            except aiosmtplib.SMTPRecipientRefused as error:
                refused[to] = error
            else:
                taken.append(to)
        if not taken:
            raise NotSent(
                f"The server refused all recipients: {'; '.join(f'{to}: {_words(no)}' for to, no in refused.items())}",
                again=all(map(_passes, refused.values())),
            )
        return taken, refused

    def _trust(self) -> ssl.SSLContext:
        import ssl  # not before something is sent

        return self._context or ssl.create_default_context()

    async def _keep(self, message: Outgoing, content: bytes) -> str:
        """A copy in Sent. It went out whether or not that works, so that a failure is only told."""
        if not self._settings.keeps_copies:
            return ""
        sent = self._settings.sent
        try:
            sent = (await self._system.store(self._mailbox).roles())["sent"]
            if self._settings.imap is not None and await lies_in(self._system, self._mailbox, message.reference):
                return f"; a copy lies in {sent}"  # the server, or an attempt before this one, put it there
            await file_copy(self._system, self._mailbox, sent, content, ["seen"], message.reference)
        except TargetError as error:
            return f"; no copy could be put into {sent}: {error}"
        return f"; a copy lies in {sent}"


async def _secured(client: aiosmtplib.SMTP, trust: ssl.SSLContext, *, direct: bool, host: str) -> None:
    """Connect, with TLS unless the server is on this machine."""
    await client.connect()
    await client.ehlo()
    if not direct:
        if client.supports_extension("starttls"):
            await client.starttls(tls_context=trust)
            await client.ehlo()
        elif host not in LOOPBACK:
            raise NotSent(f"{host} does not offer TLS, and mail does not leave this machine without it.", again=False)


async def try_login(settings: MailboxSettings, password: str) -> None:
    """Log in at the server that sends, and send nothing.

    :raises TargetError: it cannot be reached, or does not take the password.
    """
    import ssl

    try:
        import aiosmtplib
    except ImportError as error:
        raise Refused(
            "Sending needs aiosmtplib, which is not installed.",
            advice="Install takeback with its extra, takeback[email].",
        ) from error
    where = server(settings.smtp or "")
    assert where is not None, "checked when the settings were read"
    direct, host, port = where
    trust = ssl.create_default_context()
    client = aiosmtplib.SMTP(
        hostname=host, port=port, use_tls=direct, start_tls=False, timeout=SECONDS, tls_context=trust
    )
    try:
        await _secured(client, trust, direct=direct, host=host)
        await client.login(settings.username, password)
    except NotSent as error:
        raise Refused(str(error), advice="Use smtps://, or another server.") from error
    except aiosmtplib.SMTPAuthenticationError as error:
        raise Refused(
            f"{host} does not accept the user name or the password.",
            advice="Many providers want an app password, and some no passwords any more: see docs/imap.md.",
        ) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise Unavailable(
            f"{host} could not be reached, or broke off: {_plain(error)}", advice="Try again later."
        ) from error
    finally:
        client.close()


def _refusal(host: str, to: str, error: aiosmtplib.SMTPRecipientRefused) -> NotSent:
    return NotSent(f"{host} refused it for {to}: {_words(error)}", again=_passes(error))


def _words(error: aiosmtplib.SMTPRecipientRefused) -> str:
    return f"{error.code} {_plain(error.message)}"


def _passes(error: aiosmtplib.SMTPRecipientRefused) -> bool:
    """Whether it may be taken for them later."""
    return 400 <= error.code < 500


def _plain(what: object) -> str:
    """A server's words on one line, without what could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(what)).split())[:300]
