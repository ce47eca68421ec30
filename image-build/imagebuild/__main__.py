"""Build the node image: `python -m imagebuild build|lock`."""

import argparse
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import node
from imagebuild import build, product
from node.errors import Error

CACHE = Path("/var/cache/skerry-image")


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="imagebuild", description=__doc__)
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("SKERRY_IMAGE_CACHE", CACHE)),
        help="where packages are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=product.CHECKOUT / "build/image",
        help="where the image goes (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser(
        "build", help="build the image of the lock's packages"
    )
    builder.add_argument("--fast", action="store_true", help="compress less: for tests")
    commands.add_parser("lock", help="take the packages of today")
    asked = parser.parse_args(arguments)
    places = build.Places(asked.cache, asked.out)
    asked.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=asked.out / "build.log", level=logging.DEBUG)
    try:
        if asked.command == "lock":
            build.make_lock(places, datetime.now(UTC).date())
        else:
            build.make(places, node.VERSION, is_fast=asked.fast)
    except Error as error:
        print(f"{error}\n{error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
