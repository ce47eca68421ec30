"""Hold the doors of a node to their contracts where the real things are: in a host."""

from tests.lab import Lab, layout

TIMEOUT_S = 240.0  # a dozen guests are started, one after the other
_PYTEST = layout.CHECKOUT / ".venv" / "bin" / "pytest"


def test_hypervisor_keeps_its_contract_on_real_qemu(lab: Lab) -> None:
    suite = layout.CHECKOUT / "tests" / "contract" / "test_hypervisor.py"
    argv = [
        *("/usr/bin/env", "--chdir", str(layout.CHECKOUT)),
        *(str(_PYTEST), "-q", "-m", "host", str(suite)),
    ]
    result = lab.member("h1").exec(argv, timeout_s=TIMEOUT_S)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    assert " passed" in result.stdout
