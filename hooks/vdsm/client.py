"""Be `vdsm.client`, which cannot be served: there is no VDSM to connect to."""

from typing import NoReturn

from vdsm.refusing import refuse


def connect(*_arguments: object, **_options: object) -> NoReturn:
    """Refuse to connect."""
    refuse("client.connect", "ask the node by `skerry-node`, or its REST API")
