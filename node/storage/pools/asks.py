"""Take on what is asked of pools and storage domains; go on with it after a restart.

A job keeps its request, so it is run again from its beginning: see `domain_verbs`. Run
again, it waits until this node is what it was before, and does not insist on the
generation that its caller saw, which it may have changed itself.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from node import jobs, wire
from node.jobs import Progress
from node.model import storage_requests as bodies
from node.model.feed import Kind
from node.model.ids import CorrelationId, JobId
from node.model.job import Job
from node.storage.disks import leftovers
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.tasks import Task
from node.storage.pools import domain_verbs, pool_verbs
from node.storage.pools import roster as rosters
from node.storage.pools.ground import Ground
from node.storage.pools.roster import Roster
from node.storage.pools.world import World

# After a restart of the agent it is manager again within a round or two.
RETURN_S: Final = 60.0
LOOK_S: Final = 0.1


class Request(Protocol):
    """What the bodies of all verbs that are jobs have."""

    @property
    def job_id(self) -> JobId | None: ...

    @property
    def correlation_id(self) -> CorrelationId | None: ...


Deed = Callable[[Ground, str, Any, Progress], None]


def _nothing() -> None:
    """Refuse nothing before the job runs."""


@dataclass(frozen=True, slots=True)
class _Verb:
    request: type
    kind: Kind
    deed: Deed


VERBS: Final[Mapping[str, _Verb]] = {
    name: _Verb(request, kind, deed)
    for name, request, kind, deed in (
        (
            "storage_domain_create",
            bodies.CreateStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.create,
        ),
        (
            "storage_domain_import",
            bodies.ImportStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.take_in,
        ),
        (
            "storage_domain_attach",
            bodies.AttachStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.attach,
        ),
        (
            "storage_domain_change",
            bodies.ChangeStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.change,
        ),
        (
            "storage_domain_activate",
            bodies.ActOnStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.activate,
        ),
        (
            "storage_domain_maintain",
            bodies.ActOnStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.maintain,
        ),
        (
            "storage_domain_detach",
            bodies.ActOnStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.detach,
        ),
        (
            "storage_domain_remove",
            bodies.RemoveStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.remove,
        ),
        (
            "storage_domain_repair",
            bodies.RepairStorage,
            Kind.STORAGE_DOMAIN,
            domain_verbs.repair,
        ),
        (
            "storage_domain_write_ovf",
            bodies.ActOnStorageDomain,
            Kind.STORAGE_DOMAIN,
            domain_verbs.write_ovf,
        ),
        ("pool_create", bodies.CreatePool, Kind.POOL, pool_verbs.create),
        ("pool_connect", bodies.ConnectPool, Kind.POOL, pool_verbs.connect),
        ("pool_disconnect", bodies.ActOnPool, Kind.POOL, pool_verbs.disconnect),
        ("pool_move_master", bodies.MoveMaster, Kind.POOL, pool_verbs.move_master),
        ("spm_become", bodies.BecomeSpm, Kind.POOL, pool_verbs.become),
        ("spm_leave", bodies.LeaveSpm, Kind.POOL, pool_verbs.leave),
    )
}


@dataclass(frozen=True, slots=True)
class Asks:
    """The jobs on pools and storage domains. Any thread may call."""

    world: World
    roster: Roster
    ground: Ground

    def take(
        self,
        verb: str,
        object_id: str,
        request: Request,
        check: Callable[[], object] = _nothing,
    ) -> Job:
        """Return the job that was asked for before, or take one on.

        `check` refuses at once what can be told at once.
        """
        known = self.known(verb, object_id, request.job_id)
        if known is not None:
            return known
        check()
        return self.world.jobs.submit(
            verb,
            VERBS[verb].kind,
            object_id,
            lambda progress: self._do(verb, object_id, request, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=wire.to_json(request),
        )

    def manage(self, verb: str, storage_domain_id: str, request: Request) -> Job:
        """Take on what only the manager of a storage domain's pool does."""

        def check() -> None:
            rosters.require_manager(self.roster.seat_with(storage_domain_id))

        return self.take(verb, storage_domain_id, request, check)

    def known(self, verb: str, object_id: str, job_id: JobId | None) -> Job | None:
        """Return the job that was asked for before; JobIdTaken if it is another."""
        if job_id is None:
            return None
        try:
            job = self.world.jobs.get(job_id)
        except jobs.JobUnknown:
            return None
        if (job.verb, job.object_id) != (verb, object_id):
            raise jobs.JobIdTaken(
                f"job {job_id} is a {job.verb} of {job.object_id}", job_id=job_id
            )
        return job

    def handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job again, by verb; those on disks, too."""
        return {
            **dict.fromkeys(VERBS, self._again),
            **dict.fromkeys(disk_tasks.VERBS, self._disk_again),
            leftovers.END_VERB: self._ending_again,
        }

    def _do(
        self, verb: str, object_id: str, request: Request, progress: Progress
    ) -> None:
        VERBS[verb].deed(self.ground, object_id, request, progress)
        self.world.on_news()

    def _again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        request: Any = wire.from_json(VERBS[job.verb].request, arguments, strict=False)
        if any(each.name == "generation" for each in dataclasses.fields(request)):
            request = dataclasses.replace(request, generation=None)

        def run(progress: Progress) -> None:
            self._settle(progress)
            self._do(job.verb, job.object_id, request, progress)

        return run

    def _settle(self, progress: Progress) -> None:
        """Wait until this node manages again what it managed before."""
        until = self.world.clock.monotonic() + RETURN_S
        while not all(each.is_settled for each in self.roster.seats()):
            if self.world.clock.monotonic() >= until:
                return
            progress.pause(LOOK_S)

    def _disk_again(self, job: Job, arguments: wire.Json) -> jobs.Runner | str | None:
        task: Task = wire.from_json(disk_tasks.VERBS[job.verb], arguments, strict=False)
        return self._of_pool(job, arguments, disk_tasks.storage_domains(task))

    def _ending_again(self, job: Job, arguments: wire.Json) -> jobs.Runner | str | None:
        """Go on to end a journal; if not, the manager finds it again anyway."""
        for seat in self.roster.seats():
            if seat.wanted.pool_id == dict(arguments).get("pool_id"):
                return seat.work.job_handlers()[job.verb](job, arguments)
        return None

    def _of_pool(
        self, job: Job, arguments: wire.Json, storage_domain_ids: Iterable[str]
    ) -> jobs.Runner | str | None:
        """Go on with a job on disks in the pool that it was taken on for."""
        for storage_domain_id in storage_domain_ids:
            seat = self.roster.seat_of(storage_domain_id)
            if seat is not None:
                return seat.work.job_handlers()[job.verb](job, arguments)
        return None
