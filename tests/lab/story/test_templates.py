"""A template on a shared pool: three hosts, as in `test_pool_vms`.

Its thin clone starts on another host, and keeps it from being deleted; a full clone
starts without it.
"""

import time
import uuid
from typing import Any

import pytest

from node import wire
from node.model.ids import VmId
from node.model.templates import Template
from node.policy import made_of
from tests.lab import waiting
from tests.lab.story import test_pool_vms
from tests.lab.story.test_pool_vms import Node, Refused, Three

pytestmark = pytest.mark.lab

pool = test_pool_vms.three

NAME = "debian"


def _make(node: Node, vm_id: str) -> Template:
    template_id = str(uuid.uuid4())
    asked = {"template_id": template_id, "name": NAME, "vm_id": vm_id}
    node.do("/templates", asked)
    found = node.call("GET", f"/templates/{template_id}")
    return wire.from_json(Template, found)


def _spec(template: Template, name: str, *, is_clone: bool = False) -> Any:
    vm_id = VmId(str(uuid.uuid4()))
    made = made_of.spec(template, vm_id, name, (), is_clone=is_clone)
    return wire.to_json(made)


def _refusal(node: Node, template: Template) -> tuple[str, str]:
    """Return the code and the text with which a deletion is refused."""
    try:
        node.do(f"/templates/{template.template_id}/delete")
    except Refused as error:
        failed = [e for e in node.call("GET", "/jobs")["jobs"] if "error" in e]
        told = [(e["verb"], e["object_id"], e["error"]["message"]) for e in failed]
        print(f"not deleted: {error}; failed: {told}")
        return str(error.args[0]), str(error.args[1])
    return "", ""


def test_template_is_kept_by_its_thin_clone_alone(pool: Three) -> None:
    h1, h2, h3 = (pool[name] for name in test_pool_vms.HOSTS)
    template = _make(h1, pool.vm)
    # Any node of the pool reads it, and the original goes on.
    assert h3.call("GET", f"/templates/{template.template_id}")["spec"]["name"] == NAME
    pool.start("h1")

    thin = _spec(template, "thin")
    began = time.monotonic()
    h1.call("POST", "/vms", {"spec": thin})
    took_s = time.monotonic() - began
    print(f"thin clone of {len(thin['disks'])} disks in {took_s:.2f} s")
    h2.do(f"/vms/{thin['vm_id']}/start")
    h2.guest(thin["vm_id"], "sync")
    code, text = _refusal(h1, template)
    assert code == "template_used"
    assert "VM thin" in text

    full = _spec(template, "full", is_clone=True)
    h1.do("/vms/clone", {"spec": full})
    h3.do(f"/vms/{full['vm_id']}/start")
    h3.guest(full["vm_id"], "sync")

    h2.do(f"/vms/{thin['vm_id']}/stop", {"manner": "force"})
    h1.do(f"/vms/{thin['vm_id']}/delete")
    # Its disks go in jobs of their own.
    waiting.until("the deletion", lambda: _refusal(h1, template)[0] == "")
    path = f"/templates/{template.template_id}/delete"
    assert h1.code(path) in ("", "template_unknown")
    known = h1.call("GET", "/templates")["templates"]
    assert template.template_id not in {each["template_id"] for each in known}
    kept = {pool.root, pool.data, *(each["disk_id"] for each in full["disks"])}
    gone = {each["disk_id"] for each in thin["disks"]}
    gone |= {str(each.disk_id) for each in template.spec.disks}
    # The node has disks of its own, too.
    left = {each["disk_id"] for each in h1.call("GET", "/disks")["disks"]}
    assert left & (kept | gone) == kept
    h3.guest(full["vm_id"], "sync && ls /")
    count = pool.count()
    waiting.until("more stamps", lambda: pool.count() > count)
    assert pool.check_one_writer() == ["h1"]
