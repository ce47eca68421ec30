"""The options of an aggregator: /etc/skerry/aggregator.conf, [aggregator].

`skerry-aggregator options` prints them with their meaning.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

from node.model import options
from node.model.options import BadOption, option

DEFAULT_PATH = Path("/etc/skerry/aggregator.conf")


@dataclass(frozen=True, slots=True)
class Config:
    name: str = option("", "text", "empty: the host name")
    address: str = option("", "address", "how nodes reach it; empty: the host name")
    state_folder: str = option("/var/lib/skerry-aggregator", "path", "keys, database")
    run_folder: str = option("/run/skerry-aggregator", "path", "sockets")
    database_url: str = option("", "URL", "empty: SQLite in the state folder")
    https_port: int = option(443, "port", "dashboard and REST API")
    feed_port: int = option(7442, "port", "what nodes push to")
    admission_port: int = option(7443, "port", "enrolment and renewal")
    node_certificate_days: float = option(365.0, "days", "renewed at two thirds")
    upkeep_interval_s: float = option(10.0, "s", "a mirror is behind for this long")
    does_discover: bool = option(True, "yes|no", "browse for nodes with Avahi")
    people_threads: int = option(8, "count", "requests of people served at once")
    ingest_threads: int = option(8, "count", "pushes of nodes served at once")
    hook_folder: str = option(
        "/etc/skerry/center-hooks", "path", "scripts before and after what it does"
    )
    hook_user: str = option("36:36", "uid:gid", "who runs them")
    hook_timeouts: str = option("", "point=s,…", "other times than a point gives them")
    hook_cgroup: str = option("skerry-center-hooks", "name", "of what they run in")
    log_level: str = option("INFO", "DEBUG|INFO|WARNING", "how much is logged")


def load(path: Path = DEFAULT_PATH) -> Config:
    """Return the file's options."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except configparser.Error as error:
        raise BadOption(f"{path} cannot be read: {error}", path=str(path)) from error
    settings = dict(parser["aggregator"]) if "aggregator" in parser else {}
    return options.read(Config, settings)
