"""What went wrong, in one sentence of fact, one of advice, and an exit code."""

from __future__ import annotations

from dataclasses import dataclass

from takeback.checkpoints.objects import ObjectError, QuotaExceeded
from takeback.journal.log import JournalError, Stale
from takeback.server.cli.codes import ExitCode, code_of
from takeback.server.cli.commands import in_commands
from takeback.server.engine.answers import EngineError
from takeback.server.settings import SettingsError
from takeback.tools.contract import ToolError
from takeback.tools.definition import DefinitionError
from takeback.tools.system import TargetError


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told."""

    code: ExitCode
    word: str
    message: str
    advice: str


def explain(error: BaseException) -> Failure | None:
    """How an error is told; `None` for what is not an error but a way to end the process."""
    match error:
        case BaseExceptionGroup(exceptions=(only,)):
            return explain(only)
        case EngineError(code=word, message=message, advice=advice):
            return Failure(code_of(word), word, message, in_commands(advice))
        case SettingsError(message=message, advice=advice) | DefinitionError(args=(message,), advice=advice):
            return Failure(ExitCode.USAGE, "configuration", message, advice)
        case Stale():
            return Failure(ExitCode.REFUSED, "changed", _sentence(error), error.advice)
        case JournalError():
            return Failure(ExitCode.DAMAGED, "journal", _sentence(error), error.advice)
        case QuotaExceeded():
            return Failure(ExitCode.REFUSED, "quota", _sentence(error), error.advice)
        case ObjectError():
            return Failure(ExitCode.OPEN, "objects", _sentence(error), error.advice)
        case ToolError() | TargetError():
            return Failure(code_of(error.code), error.code, _sentence(error), in_commands(error.advice))
        case TimeoutError():
            return Failure(
                ExitCode.REFUSED,
                "busy",
                "Somebody else is at work on the same objects.",
                "Wait until it is over, then repeat the command.",
            )
        case OSError(strerror=str(why), filename=name):
            what = f"{name}: {why}." if name else f"{why}."
            return Failure(ExitCode.REFUSED, "os", _capital(what), "Mend that, then repeat the command.")
        case KeyboardInterrupt():
            return Failure(
                ExitCode.INTERRUPTED,
                "interrupted",
                "Interrupted.",
                "What was in flight is in the journal and is settled at the next start.",
            )
        case Exception():
            return Failure(
                ExitCode.INTERNAL,
                "internal",
                f"takeback made a mistake ({type(error).__name__}: {error}).",
                "Repeat the command with --debug and report what it prints.",
            )
        case _:
            return None


def _sentence(error: BaseException) -> str:
    words = str(error).strip() or type(error).__name__
    return _capital(words if words.endswith((".", "!", "?")) else f"{words}.")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:] if not words.startswith(("/", ".")) else words
