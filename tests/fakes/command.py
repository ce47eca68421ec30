"""A command door whose programs are functions of the test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from node.system import command
from node.system.command import CommandFailed, CommandMissing, Result

Program = Callable[[tuple[str, ...], bytes | None], Result]


def output(stdout: bytes = b"", status: int = 0, stderr: bytes = b"") -> Program:
    """Return a program that always writes and ends the same way."""
    return lambda argv, input: Result(argv, status, stdout, stderr)


@dataclass(slots=True)
class FakeCommands:
    """Programs by name; what was run is kept in order."""

    programs: dict[str, Program] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        may_fail: bool = False,
    ) -> Result:
        result = self._answer(tuple(argv), input)
        if result.status != 0 and not may_fail:
            raise CommandFailed(
                f"{argv[0]} ended with status {result.status}: {result.complaint}",
                command=" ".join(argv),
                status=result.status,
            )
        return result

    def first_line(self, argv: Sequence[str], *, timeout_s: float) -> Result:
        return self._answer(tuple(argv), None)

    def _answer(self, argv: tuple[str, ...], input: bytes | None) -> Result:
        self.ran.append(argv)
        program = self.programs.get(argv[0])
        if program is None:
            raise CommandMissing(f"{argv[0]} cannot be run: No such file or directory")
        return program(argv, input)


_typed: tuple[command.Run, command.FirstLine] = (
    FakeCommands().run,
    FakeCommands().first_line,
)
