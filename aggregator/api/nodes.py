"""Serve nodes, candidates and enrolment tokens."""

import flask

from aggregator.api import caller, verbs
from aggregator.api.model import (
    AdmitNode,
    CandidateLine,
    EnrolmentToken,
    MakeToken,
    NodeLine,
    NodeLines,
    RemoveNode,
)
from aggregator.federation.view import NodeState, NodeView
from aggregator.registry import Candidate, Member
from aggregator.services import Services
from node.errors import Invalid
from node.http import face
from node.model.ids import NodeId


class NobodyNamed(Invalid):
    code = "nobody_named"
    remedy = "Name a candidate by its id, or a node by its address."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/nodes, and /v1/tokens."""
    routes = flask.Blueprint("nodes", __name__)

    def node_list() -> NodeLines:
        return lines(services)

    def admit(request: AdmitNode) -> NodeLine:
        origin = caller.origin()
        if request.node_id is not None:
            member = services.registry.admit(
                request.node_id, request.fingerprint, origin
            )
        elif request.address is not None:
            member = services.registry.admit_address(
                request.address, request.fingerprint, origin
            )
        else:
            raise NobodyNamed("neither node_id nor address is given")
        return _member_line(services, member)

    def remove(request: RemoveNode, node_id: str) -> NodeLines:
        services.registry.remove(
            NodeId(node_id), caller.origin(), is_forced=request.is_forced
        )
        return lines(services)

    def make_token(request: MakeToken) -> EnrolmentToken:
        token = services.registry.make_token(request.lifetime_s, caller.origin())
        return EnrolmentToken(token.text, token.expires_at, token.aggregator)

    face.bind(routes, verbs.NODE_LIST, node_list)
    face.bind(routes, verbs.NODE_ADMIT, admit)
    face.bind(routes, verbs.NODE_REMOVE, remove)
    face.bind(routes, verbs.TOKEN_MAKE, make_token)
    return routes


def lines(services: Services) -> NodeLines:
    """Return all nodes by name, and who waits for admission."""
    nodes = sorted(services.mirror.view.nodes.values(), key=lambda node: node.name)
    return NodeLines(
        tuple(map(node_line, nodes)),
        tuple(map(_candidate_line, services.registry.candidates())),
    )


def node_line(node: NodeView) -> NodeLine:
    """Return what a list shows of a node."""
    facts = node.facts
    return NodeLine(
        node.node_id,
        node.name,
        node.address,
        node.state.value,
        node.since,
        node.reason,
        facts.versions.agent if facts else "",
        node.vms_running,
        facts.cpu.count if facts else 0,
        facts.memory_bytes if facts else 0,
        node.memory_promised_bytes,
        facts is not None and not facts.kvm.is_usable,
        node.images,
        node.stats,
    )


def _member_line(services: Services, member: Member) -> NodeLine:
    node = services.mirror.view.nodes.get(member.node_id)
    if node is not None:
        return node_line(node)
    return NodeLine(
        member.node_id,
        member.name,
        member.address,
        NodeState.CONNECTING.value,
        member.admitted_at,
    )


def _candidate_line(candidate: Candidate) -> CandidateLine:
    return CandidateLine(
        candidate.node_id,
        candidate.name,
        candidate.address,
        candidate.version,
        candidate.fingerprint,
        candidate.last_seen,
        candidate.problem,
    )
