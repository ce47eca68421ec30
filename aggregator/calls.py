"""Call the members of the fleet: with our certificate, in the name of our term.

A node that refuses because somebody else leads is listened to: from then on
this aggregator mirrors.
"""

from collections.abc import Mapping

from aggregator.authority import Authority
from aggregator.federation.view import NodeView
from aggregator.fleet import following
from aggregator.fleet.term import Leadership, NotLeading
from aggregator.registry import Member, NoSuchMember, Registry
from node.errors import Error
from node.http import links
from node.http.client import NodeClient, Reply, Transport, VerbClient
from node.model.fleet import AggregatorAddress, Role
from node.model.verbs import ActionGroup, Verb

SUPERSEDED = "superseded"  # the code of node.host.enrol


class MemberClient(NodeClient):
    """A node's API as the fleet's leader calls it."""

    def __init__(self, transport: Transport, leadership: Leadership) -> None:
        super().__init__(transport, leadership.headers)
        self._leadership = leadership

    def send(
        self,
        verb: Verb,
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> Reply:
        """Return the whole reply; NotLeading if only the leader may ask for this."""
        if verb.group is not ActionGroup.READ and not self._leadership.is_leading:
            raise NotLeading(f"{verb.name}: another aggregator leads this fleet")
        try:
            return super().send(verb, request, query=query, wait_s=wait_s, **path)
        except Error as error:
            newest = error.fields.get("newest")
            if error.code == SUPERSEDED and isinstance(newest, int):
                self._leadership.observe(newest)
            raise


class Calls:
    """Make clients for members."""

    def __init__(self, authority: Authority, leadership: Leadership) -> None:
        self._authority = authority
        self._leadership = leadership

    def member(self, member: Member) -> MemberClient:
        """Return the client of a member."""
        transport = links.MemberTransport(
            member.address,
            member.api_port,
            links.Peer(member.node_id, Role.NODE),
            self._authority.client_context(),
        )
        return MemberClient(transport, self._leadership)

    def follow(
        self, leader: AggregatorAddress, request: following.Follow
    ) -> following.Followed:
        """Say to another aggregator that we mirror, and return what it hands out."""
        transport = links.MemberTransport(
            leader.address,
            leader.feed_port,
            links.Peer(leader.name, Role.AGGREGATOR),
            self._authority.client_context(),
        )
        return VerbClient(transport).call(following.FOLLOW, following.Followed, request)

    def node(self, registry: Registry, node: NodeView) -> MemberClient:
        """Return the client of a node in the View; NoSuchMember if it was removed."""
        member = registry.member(node.node_id)
        if member is None:
            raise NoSuchMember(f"{node.name} is no member any more")
        return self.member(member)
