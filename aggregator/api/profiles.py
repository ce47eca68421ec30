"""Serve storage QoS and disk profiles."""

import flask

from aggregator.api import profile_model as model
from aggregator.api import profile_verbs as verbs
from aggregator.control import routes as control
from aggregator.federation.view import View
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.policies.profiles import (
    DiskProfile,
    Profiles,
    StorageQos,
    default_id,
)
from aggregator.services import Services
from node.http import face
from node.model.ids import DiskId, StorageDomainId


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes of storage QoS and disk profiles."""
    routes = flask.Blueprint("profiles", __name__)
    found = _Profiles(services)
    for verb in verbs.VERBS:
        face.bind(routes, verb, getattr(found, verb.name))
    return routes


class _Profiles:
    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def _profiles(self) -> DiskProfiles:
        return self._services.orders.profiles

    @property
    def _view(self) -> View:
        return self._services.mirror.view

    def qos_list(self) -> model.StorageQosLines:
        now = self._profiles.now()
        found = sorted(now.qoss.values(), key=lambda each: each.name.casefold())
        return model.StorageQosLines(tuple(self._qos(now, each) for each in found))

    def qos_create(self, request: model.NewStorageQos) -> model.StorageQosLine:
        center = request.data_center_id
        if center is None:
            center = self._services.orders.pools.default_data_center()
        made = self._profiles.make_qos(
            request.name, center, request.description, request.limits
        )
        return self._qos(self._profiles.now(), made)

    def qos_change(
        self, request: model.ChangeStorageQos, qos_id: str
    ) -> model.StorageQosLine:
        changed = self._profiles.change_qos(
            qos_id,
            name=request.name,
            description=request.description,
            limits=request.limits,
        )
        return self._qos(self._profiles.now(), changed)

    def qos_remove(
        self, request: model.RemoveStorageQos, qos_id: str
    ) -> model.StorageQosLines:
        self._profiles.remove_qos(qos_id)
        return self.qos_list()

    def disk_profile_list(self) -> model.DiskProfileLines:
        now, view = self._profiles.now(), self._view
        return model.DiskProfileLines(
            tuple(line(view, now, each) for each in now.all(view))
        )

    def disk_profile_create(
        self, request: model.NewDiskProfile
    ) -> model.DiskProfileLine:
        where = StorageDomainId(request.storage_domain_id)
        words = (request.name, where, request.description, request.qos_id)
        return self._line(self._profiles.make(self._view, *words))

    def disk_profile_change(
        self, request: model.ChangeDiskProfile, profile_id: str
    ) -> model.DiskProfileLine:
        changed = self._profiles.change(
            self._view,
            profile_id,
            name=request.name,
            description=request.description,
            qos_id="" if request.has_own_limits else request.qos_id,
        )
        return self._line(changed)

    def disk_profile_remove(
        self, request: model.RemoveDiskProfile, profile_id: str
    ) -> model.DiskProfileLines:
        self._profiles.remove(self._view, profile_id)
        return self.disk_profile_list()

    def disk_choose_profile(
        self, request: model.ChooseDiskProfile, disk_id: str
    ) -> model.DiskProfileLine:
        view = self._view
        disk = control.disk(view, DiskId(disk_id))
        words = (view, disk.disk_id, request.profile_id)
        return self._line(self._profiles.choose(*words, disk.storage_domain_ids))

    def _line(self, profile: DiskProfile) -> model.DiskProfileLine:
        return line(self._view, self._profiles.now(), profile)

    def _qos(self, now: Profiles, qos: StorageQos) -> model.StorageQosLine:
        names = self._services.orders.pools.data_centers()
        return model.StorageQosLine(
            qos.qos_id,
            qos.name,
            names.get(qos.data_center_id, ""),
            qos.data_center_id,
            qos.description,
            qos.limits,
            tuple(sorted(each.name for each in now.users(qos.qos_id))),
        )


def line(view: View, now: Profiles, profile: DiskProfile) -> model.DiskProfileLine:
    """Return what a list shows of a profile. Pure."""
    row = view.storage_domains.get(profile.storage_domain_id)
    qos = now.qoss.get(profile.qos_id or "")
    return model.DiskProfileLine(
        profile.profile_id,
        profile.name,
        row.name if row is not None else "",
        profile.storage_domain_id,
        profile.description,
        profile.profile_id == default_id(profile.storage_domain_id),
        qos.name if qos is not None else "",
        profile.qos_id,
        now.limits(profile),
    )
