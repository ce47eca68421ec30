"""A real agent on fake doors: its store, jobs, services and faces, in one folder.

No root, no libvirt, no network. One base image, `debian`, lies in its folder;
two VMs are there from the start: `idle` is down and `busy` runs.
"""

import contextlib
import grp
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
from flask.testing import FlaskClient

from node.api import admission, changes, exports, faces, host, jobs, registering, vms
from node.api import hooks as hooks_api
from node.api import snapshots as snapshots_api
from node.api import storage as storage_api
from node.api import templates as templates_api
from node.api import transfers as transfers_api
from node.clock import SystemClock, rfc3339
from node.config import Config
from node.contract.volumes import Volumes
from node.guest import facts as guests
from node.hooks.installing import Bundles
from node.hooks.points import POINTS
from node.hooks.runner import Runner
from node.hooks.trying import Trials
from node.host import enrol
from node.jobs import Jobs
from node.jobs.workers import JobUnknown
from node.model.fleet import Role
from node.model.host import AdmissionState, Device, DeviceKind, NodeStatus
from node.model.ids import DiskId, JobId, NicId, VmId
from node.model.job import ENDED, Job
from node.model.requests import (
    ActOnVm,
    CreateVm,
    DeleteVm,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.stats import NodeStats, Stats
from node.model.vm import VmState
from node.storage import images
from node.store import Store
from node.system import command
from node.units import GiB
from node.vm.lifecycle import Lifecycle
from tests.fakes.hooks import FakeHooks, NoScripts
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.kept_exports import FakeExports
from tests.fakes.kept_templates import FakeTemplates
from tests.fakes.papers import PaperFleet
from tests.fakes.qemu_img import header
from tests.fakes.storage_service import FakeStorage, NoVmChanges
from tests.fakes.transfer_service import FakeTransfers
from tests.fakes.volumes import FakeVolumes
from tests.unit.node.vm.examples import DISK, HOST, NIC, NODE_ID, SPEC

IDLE = VmId("aaaaaaaa-0000-4000-8000-00000000000a")
BUSY = VmId("aaaaaaaa-0000-4000-8000-00000000000b")
UNKNOWN = "ffffffff-0000-4000-8000-00000000000f"
WAIT_S = 30.0
_CARD = Device("nic-eth0", DeviceKind.NIC, "eth0", mac="52:54:00:00:00:02")


class FakeAgent:
    """Everything of an agent that answers to somebody."""

    def __init__(
        self,
        folder: Path,
        hypervisor: FakeHypervisor | None = None,
        volumes: Volumes | None = None,
    ) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.papers = PaperFleet(now=self.clock.now())
        self.hypervisor = hypervisor or FakeHypervisor()
        self.store = Store(folder / "node.db", self.clock, NODE_ID, HOST.boot_id)
        self.jobs = Jobs(self.store, self.clock)
        self._images = folder / "images"
        self._images.mkdir()
        (self._images / "debian.qcow2").write_bytes(header(GiB))
        (folder / "logs").mkdir()
        self.hooks = FakeHooks()
        self.vms = Lifecycle(
            self.hypervisor,
            self.store,
            self.jobs,
            self.clock,
            Config(
                state_folder=str(folder),
                qemu_group=grp.getgrgid(os.getgid()).gr_name,
                guest_wait_s=3600.0,  # nothing changes by itself
            ),
            lambda: HOST,
            images.list_images,
            guests.GuestPoller,
            volumes or FakeVolumes(NODE_ID, is_shared=False),
            self.hooks,
            folder / "logs",
        )
        self.bundles = Bundles(folder / "bundles", self.store, lambda: (), lambda: None)
        self.trials = Trials(
            Runner(
                POINTS, lambda: [folder / "hooks"], folder / "run", NoScripts(), None
            ),
            lambda vm_id: self.vms.show(vm_id).vm,
            self.vms.describe,
            self.hypervisor.complaint,
            command.run,
        )
        self.snapshots = self.vms.snapshotter(NoVmChanges(), self.store)
        exports = FakeExports()
        self.kept = FakeTemplates()
        self.exporter = self.vms.exporter(exports, NoVmChanges(), self.kept, self.store)
        self.templates = self.vms.templates(self.kept, NoVmChanges(), self.store)
        self.enrolment = enrol.Enrolment(
            self.store,
            folder / "pki",
            enrol.Identity(NODE_ID, HOST.name, HOST.address, 7440, 7441),
            self.clock,
            lambda: None,
            built_at=enrol.build_date(),
        )
        self.storage = FakeStorage(self.jobs)
        self.transfers = FakeTransfers()
        self.vms.run()
        self.jobs.start()
        assert self.vms.wait_surveyed(WAIT_S), "the fake hypervisor is not seen"
        self.local = faces.create_local(self._blueprints())
        self.fleet = faces.create_fleet(self._blueprints(), self.enrolment.check_term)
        self.admission = faces.create_admission(self._blueprints())
        self.add(IDLE, "idle")
        self.add(BUSY, "busy")
        self.end_of(self.vms.start(BUSY, StartVm()))

    def headers(self) -> dict[str, str]:
        """Return what nginx and an aggregator that leads put on a request."""
        membership = self.enrolment.membership()
        assert membership is not None, "call restore first"
        return {
            faces.ROLE: Role.AGGREGATOR.value,
            faces.SUBJECT: "a1",
            faces.FLEET: membership.fleet_id,
            faces.TERM: str(membership.term),
        }

    def restore(self) -> None:
        """Be a member, with the two VMs as they were at the start."""
        self.kept.restore()
        self.settle()
        if not self.enrolment.is_member():
            csr = self.enrolment.request().csr
            self.enrolment.admit(self.papers.admission(csr, name=NODE_ID))
        stop = StopVm(manner=StopManner.FORCE)
        for vm_id, name in ((IDLE, "idle"), (BUSY, "busy")):
            if self._is_changed(vm_id):
                self.end_of(self.vms.stop(vm_id, stop))
                self.end_of(self.vms.delete(vm_id, DeleteVm()))
            if vm_id not in {entry.vm.spec.vm_id for entry in self.vms.list()}:
                self.forget_deletions()
                self.add(vm_id, name)
        self.end_of(self.vms.stop(IDLE, stop))
        self.end_of(self.vms.start(BUSY, StartVm()))
        self.end_of(self.vms.resume(BUSY, ActOnVm()))

    def _is_changed(self, vm_id: VmId) -> bool:
        return any(
            entry.vm.spec.vm_id == vm_id and entry.vm.generation > 1
            for entry in self.vms.list()
        )

    def close(self) -> None:
        self.jobs.stop(WAIT_S)
        self.vms.close()
        self.store.close()

    @property
    def client(self) -> FlaskClient:
        """Return a client of the local face."""
        return self.local.test_client()

    def add(self, vm_id: VmId, name: str) -> None:
        """Define a VM with devices of its own."""
        tail = vm_id[-12:]
        disk = replace(DISK, disk_id=DiskId(f"bbbbbbbb-0000-4000-8000-{tail}"))
        nic = replace(
            NIC,
            nic_id=NicId(f"cccccccc-0000-4000-8000-{tail}"),
            mac=f"52:54:01:{tail[-6:-4]}:{tail[-4:-2]}:{tail[-2:]}",
        )
        spec = replace(SPEC, vm_id=vm_id, name=name, disks=(disk,), nics=(nic,))
        self.vms.create(CreateVm(spec))

    def end_of(self, job: Job) -> Job:
        """Return a job when it has ended."""
        ended = self.jobs.get(JobId(job.job_id), WAIT_S)
        assert ended.state in ENDED, f"{ended} does not end"
        return ended

    def settle(self) -> None:
        """Wait until no job is under way."""
        for job in self.jobs.list():
            if job.state in ENDED:
                continue
            # Of many that ended, the oldest are forgotten while we ask.
            with contextlib.suppress(JobUnknown):
                self.end_of(job)

    def known(self) -> Mapping[str, Any]:
        """Return all that the node would tell, to compare."""
        seen = self.store.changes(0)
        return {
            "documents": {(each.kind, each.id): each.body for each in seen.changed},
            "gone": seen.gone,
            "rev": seen.rev,
            "events": self.store.events(0).last,
        }

    def status(self) -> NodeStatus:
        request = self.enrolment.request()
        entries = self.vms.list()
        return NodeStatus(
            NODE_ID,
            HOST.name,
            HOST.address,
            HOST.versions.agent,
            request.fingerprint,
            AdmissionState.WAITING,
            "oak waits for admission.",
            self.store.epoch,
            self.store.rev,
            term=0,
            vms_running=sum(each.run.state is not VmState.DOWN for each in entries),
            vms_defined=len(entries),
        )

    def forget_deletions(self) -> None:
        """Let a deleted VM come back, which no node of the world does."""
        with contextlib.closing(sqlite3.connect(self.folder / "node.db")) as store:
            store.execute("DELETE FROM retired")
            store.commit()

    def _stats(self) -> Stats:
        at = rfc3339(self.clock.now())
        return Stats(at, NodeStats(), self.vms.stats())

    def _blueprints(self) -> tuple[flask.Blueprint, ...]:
        sources = host.Sources(
            self.status,
            lambda: HOST,
            lambda: (_CARD,),
            lambda: images.list_images(self._images),
            self._stats,
        )
        return (
            host.blueprint(sources),
            vms.blueprint(self.vms),
            snapshots_api.blueprint(self.snapshots),
            templates_api.blueprint(self.templates),
            exports.blueprint(self.exporter),
            hooks_api.blueprint(self.trials, self.bundles),
            storage_api.blueprint(self.storage),
            registering.blueprint(*(self.storage,) * 3),
            transfers_api.blueprint(self.transfers),
            jobs.blueprint(self.jobs),
            changes.blueprint(self.store),
            admission.blueprint(self.enrolment, self.status),
        )
