"""`[triggers]`: from when on something looks wrong, and what is done about it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

Answer = Literal["off", "warn", "read_only", "contain", "quarantine", "rollback"]

_ANSWER = "What is done: off, warn, read_only, contain, quarantine or rollback."
_WINDOW = "Within so many seconds."


class _Part(BaseModel):
    """Base: unknown keys are refused, so that a typing error does not pass for a setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyViolation(_Part):
    """Calls that policy refuses."""

    threshold: int = Field(default=5, ge=1, description="From so many refused calls on.")
    window_seconds: float = Field(default=600, gt=0, description=_WINDOW)
    answer: Answer = Field(default="contain", description=_ANSWER)


class FailedPostcondition(_Part):
    """Right after an act an object was not as the act left it."""

    answer: Answer = Field(default="warn", description=f"{_ANSWER} rollback takes back the act alone.")


class RepeatedUpdate(_Part):
    """The same call with the same arguments, made again and again."""

    threshold: int = Field(default=20, ge=1, description="So many are made; the next one is answered.")
    window_seconds: float = Field(default=600, gt=0, description=_WINDOW)
    answer: Answer = Field(default="contain", description=_ANSWER)


class RetryStorm(_Part):
    """A tool that fails again and again in the same way, without a success in between."""

    threshold: int = Field(default=20, ge=1, description="From so many failures on.")
    window_seconds: float = Field(default=300, gt=0, description=_WINDOW)
    answer: Answer = Field(default="read_only", description=_ANSWER)


class StepCount(_Part):
    """How many acts a run makes."""

    threshold: int = Field(default=1000, ge=1, description="So many are made; the next one is answered.")
    answer: Answer = Field(default="warn", description=_ANSWER)


class MutationRate(_Part):
    """How fast acts follow one another."""

    threshold: int = Field(default=240, ge=1, description="So many are made; the next one is answered.")
    window_seconds: float = Field(default=60, gt=0, description=_WINDOW)
    answer: Answer = Field(default="warn", description=_ANSWER)


class BlastRadius(_Part):
    """How much a run touches. What a person consented to does not count, and 0 means no bound."""

    objects: int = Field(default=2000, ge=0, description="Most objects changed in a run.")
    objects_per_minute: int = Field(default=600, ge=0, description="Most objects changed in a minute.")
    deleted: int = Field(default=400, ge=0, description="Most objects deleted in a run.")
    deleted_per_minute: int = Field(default=100, ge=0, description="Most objects deleted in a minute.")
    rows: int = Field(default=100_000, ge=0, description="Most rows changed in a run.")
    rows_per_minute: int = Field(default=50_000, ge=0, description="Most rows changed in a minute.")
    recipients: int = Field(default=50, ge=0, description="Most people written to in a run.")
    recipients_per_minute: int = Field(default=25, ge=0, description="Most people written to in a minute.")
    systems: int = Field(default=0, ge=0, description="Most systems changed in a run.")
    answer: Answer = Field(default="contain", description=_ANSWER)


class PrincipalRadius(_Part):
    """How much all runs of one principal touch together. By default what two runs may that are both at their own bounds."""

    objects_per_hour: int = Field(default=4000, ge=0, description="Most objects changed in an hour.")
    objects_per_minute: int = Field(default=1200, ge=0, description="Most objects changed in a minute.")
    deleted_per_hour: int = Field(default=800, ge=0, description="Most objects deleted in an hour.")
    deleted_per_minute: int = Field(default=200, ge=0, description="Most objects deleted in a minute.")
    rows_per_hour: int = Field(default=200_000, ge=0, description="Most rows changed in an hour.")
    rows_per_minute: int = Field(default=100_000, ge=0, description="Most rows changed in a minute.")
    recipients_per_hour: int = Field(default=100, ge=0, description="Most people written to in an hour.")
    recipients_per_minute: int = Field(default=50, ge=0, description="Most people written to in a minute.")
    answer: Answer = Field(
        default="contain", description=f"{_ANSWER} Whatever is more than warn holds the principal, not the run alone."
    )

    @property
    def watches(self) -> bool:
        """Whether there is anything to count."""
        return self.answer != "off" and any(
            value for name, value in self.model_dump().items() if name.endswith(("_hour", "_minute"))
        )


class TargetConfusion(_Part):
    """Objects outside what the run declared (its scope), or of another tenant than it began with."""

    threshold: int = Field(default=3, ge=1, description="From so many calls outside the run's scope on.")
    tenants: tuple[str, ...] = Field(
        default=(), description="Patterns of objects in which {tenant} says whose they are; a run keeps to one."
    )
    answer: Answer = Field(default="contain", description=_ANSWER)

    @field_validator("tenants")
    @classmethod
    def _tells(cls, tenants: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in tenants:
            if pattern.count("{tenant}") != 1:
                raise ValueError(f"the pattern {pattern!r} needs {{tenant}} once")
        return tenants


class SchemaDrift(_Part):
    """A tool is another one than when the run began to use it."""

    answer: Answer = Field(default="warn", description=_ANSWER)


class PartialFailure(_Part):
    """A system fails acts of a run, or leaves them in doubt."""

    threshold: int = Field(default=5, ge=1, description="From so many on.")
    window_seconds: float = Field(default=300, gt=0, description=_WINDOW)
    answer: Answer = Field(default="warn", description=_ANSWER)


class TriggerSettings(_Part):
    """All of them."""

    policy_violation: PolicyViolation = PolicyViolation()
    failed_postcondition: FailedPostcondition = FailedPostcondition()
    repeated_update: RepeatedUpdate = RepeatedUpdate()
    retry_storm: RetryStorm = RetryStorm()
    step_count: StepCount = StepCount()
    mutation_rate: MutationRate = MutationRate()
    blast_radius: BlastRadius = BlastRadius()
    principal_radius: PrincipalRadius = PrincipalRadius()
    target_confusion: TargetConfusion = TargetConfusion()
    schema_drift: SchemaDrift = SchemaDrift()
    partial_failure: PartialFailure = PartialFailure()

    @classmethod
    def off(cls) -> Self:
        """None of them answers: for what works at a machine's pace on purpose."""
        return cls.model_validate({name: {"answer": "off"} for name in cls.model_fields})
