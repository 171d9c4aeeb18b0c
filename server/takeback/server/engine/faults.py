"""What an error of a system or a tool is called in an answer, a report and the journal.

Systems and tools may be anybody's code: what they raise by contract says what is wrong in words meant for people; anything else
is named by its type alone, because its text may hold anything.
"""

from __future__ import annotations

from takeback.checkpoints.objects import ObjectError
from takeback.journal.log import JournalBusy, JournalError, JournalFull, KeyUnavailable
from takeback.server.engine.answers import EngineError
from takeback.tools.adapt import MemoError
from takeback.tools.contract import ToolError
from takeback.tools.system import TargetError

_SPOKEN = (TargetError, ToolError, ObjectError, JournalError, MemoError, EngineError)


def fault(error: BaseException) -> str:
    """The error in a few words, without a full stop."""
    if isinstance(error, _SPOKEN) and str(error):
        return str(error).rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it failed unexpectedly ({type(error).__name__})"


def advice_of(error: BaseException, otherwise: str) -> str:
    """What the reader can do about it."""
    advice = getattr(error, "advice", "")
    return advice if isinstance(advice, str) and advice else otherwise


def unwritten(error: JournalError, what: str, then: str) -> EngineError:
    """What is said when the journal refuses what has to be written.

    :param what: what stopped, as the beginning of a sentence.
    :param then: what becomes of what was begun, one sentence.
    """
    passing = isinstance(error, JournalFull | JournalBusy)
    code = "storage" if passing else "key_unavailable" if isinstance(error, KeyUnavailable) else "journal_broken"
    return EngineError(
        code, f"{what}, because the journal cannot be written: {fault(error)}.", f"{error.advice} {then}"
    )
