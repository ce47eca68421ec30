"""Serve what this node is, has and does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flask

import node
from node.http import face, openapi
from node.model import verbs
from node.model.host import Device, Image, NodeFacts, NodeStatus
from node.model.requests import DeviceList, ImageList
from node.model.stats import Stats


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from; none of them may block."""

    status: Callable[[], NodeStatus]
    facts: Callable[[], NodeFacts]
    devices: Callable[[], tuple[Device, ...]]
    images: Callable[[], tuple[Image, ...]]
    stats: Callable[[], Stats]


def blueprint(sources: Sources) -> flask.Blueprint:
    """Return /v1/status, /v1/node, /v1/devices, /v1/images, /v1/stats."""
    routes = flask.Blueprint("host", __name__)

    def devices() -> DeviceList:
        return DeviceList(sources.devices())

    def images() -> ImageList:
        return ImageList(sources.images())

    def describe() -> dict[str, Any]:
        return openapi.document(verbs.VERBS, "Skerry node", node.VERSION)

    face.bind(routes, verbs.STATUS, sources.status)
    face.bind(routes, verbs.NODE, sources.facts)
    face.bind(routes, verbs.DEVICES, devices)
    face.bind(routes, verbs.IMAGES, images)
    face.bind(routes, verbs.STATS, sources.stats)
    face.bind(routes, verbs.OPENAPI, describe)
    return routes
