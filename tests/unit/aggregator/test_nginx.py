"""The aggregator's nginx.conf; to change it, change the golden file."""

from pathlib import Path

from aggregator import nginx

GOLDEN = Path(__file__).parent / "golden"


def test_render_is_the_golden_file() -> None:
    text = nginx.render(
        nginx.AggregatorFront(
            Path("/run/skerry-aggregator"),
            Path("/var/lib/skerry-aggregator"),
            443,
            7442,
            7443,
            has_ipv6=False,
        )
    )
    assert text == (GOLDEN / "nginx.conf").read_text()
