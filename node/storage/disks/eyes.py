"""Look at the disks of a pool for whoever plans what to do with them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from node.model.host import Image
from node.storage import images
from node.storage.disks.tasks import Eyes, Named
from node.storage.domains import catalog as catalogs
from node.storage.domains.catalog import Catalog
from node.storage.formats import layout
from node.storage.guard import Guard
from node.storage.operations.facts import Disk, Place, Site
from node.storage.spm import pool_rules
from node.storage.spm.pool import Pool


class PoolEyes:
    """What lies on the storage domains of a pool, here and now."""

    def __init__(
        self,
        pool: Pool,
        guard: Guard,
        catalog: Catalog,
        namer: Callable[[str, str], tuple[Named, ...]],
    ) -> None:
        """`namer` tells which definitions name a disk on a storage domain."""
        self._namer = namer
        self._pool = pool
        self._guard = guard
        self._catalog = catalog

    def look(self, storage_domain_id: str, image_id: str) -> Place:
        layout.check_id(image_id)
        place = self._catalog.place(self._pool.access(storage_domain_id), image_id)
        if storage_domain_id not in pool_rules.active_exports(self._pool.map):
            return place
        site = replace(place.site, has_leases=False)
        disk = place.disk and _exported(place.disk, site)
        return replace(place, site=site, disk=disk)

    def places(self, image_id: str) -> tuple[str, ...]:
        return tuple(each.storage_domain_id for each in self._catalog.find(image_id))

    def named_by(self, disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        return self._namer(disk_id, storage_domain_id)

    def users(self, storage_domain_id: str, image_id: str) -> tuple[str, ...]:
        sight = self._catalog.sight(storage_domain_id)
        return sight.users(image_id) if sight is not None else ()

    def templates(self, place: Place) -> Mapping[str, Disk]:
        sight = self._catalog.sight(place.site.storage_domain_id)
        if place.disk is None or sight is None:
            return {}
        volumes = place.disk.image.volumes
        named = {
            volume_id
            for each in volumes.values()
            for volume_id in (each.parent_id, each.backing_id)
        }
        found = {}
        for volume_id, image_id in sight.templates().items():
            if volume_id in named - set(volumes):
                disk = self.look(place.site.storage_domain_id, image_id).disk
                if disk is not None and disk.own() == (volume_id,):
                    found[volume_id] = disk
        return found

    def allocated_bytes(self, storage_domain_id: str, image_id: str) -> int:
        sight = self._catalog.sight(storage_domain_id)
        image = sight.images.get(image_id) if sight is not None else None
        return image.allocated_bytes if image is not None else 0

    def base_image(self, name: str) -> Image:
        folder = self._pool.options.images
        if folder is None:
            raise images.ImageUnknown(f"this node has no base images, so no {name}")
        return images.find_image(folder, name)

    def free_bytes(self, storage_domain_id: str) -> int:
        access = self._pool.access(storage_domain_id)
        files = access.files(self._guard, deadline_s=catalogs.DEADLINE_S)
        return files.space(str(access.layout.root)).free_bytes


def _exported(disk: Disk, site: Site) -> Disk:
    """Return a disk that lacks no lease, and that no VM of the pool names."""
    volumes = {
        key: replace(each, has_lease=True) for key, each in disk.image.volumes.items()
    }
    image = replace(disk.image, volumes=volumes, wanted=frozenset())
    return replace(disk, site=site, image=image)


_typed: type[Eyes] = PoolEyes
