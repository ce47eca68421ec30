"""Tests of the page of hooks, without scripts."""

import io
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import hook_bundle
from node.model.hooks import HookBundle, HookReport
from tests.fakes import center_hooks
from tests.fakes import services as fakes
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

PAGE = "/ui/hooks"
KEY = Ed25519PrivateKey.generate()
KEY_ID = hook_bundle.key_id(KEY.public_key())
PEM = (
    KEY.public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    .decode()
)


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(fakes.make_fleet())
    browsers.log_in(browser)
    return browser


def bundle() -> io.BytesIO:
    files = {PurePosixPath("before_vm_start/50_glue"): b"#!/bin/sh\n"}
    return io.BytesIO(hook_bundle.write("glue", "7", files, [KEY]))


def install(browser: Browser, **fields: str) -> str:
    browser.post(f"{PAGE}/install", bundle=(bundle(), "glue.bundle"), **fields)
    return browser.get(PAGE)


def test_key_is_added_and_removed(browser: Browser) -> None:
    assert 'textarea name="pem"' in browser.get(f"{PAGE}/keys/new")
    browser.post(f"{PAGE}/keys/new", name="site <b>", pem=PEM)
    page = browser.get(PAGE)
    assert "site &lt;b&gt;" in page
    assert KEY_ID[:16] in page
    assert "site &lt;b&gt;" in browser.get(f"{PAGE}/keys/{KEY_ID}/remove")
    browser.post(f"{PAGE}/keys/{KEY_ID}/remove")
    assert browser.fleet.hook_rules.signers() == ()


def test_wrong_key_is_told(browser: Browser) -> None:
    browser.post(f"{PAGE}/keys/new", name="site", pem="no key")
    assert "no public key" in browser.get(PAGE)


def test_bundle_goes_to_all_nodes_or_to_one(browser: Browser) -> None:
    browser.post(f"{PAGE}/keys/new", name="site", pem=PEM)
    assert 'type="file"' in browser.get(f"{PAGE}/install")
    install(browser, node=fakes.OAK)
    assert list(browser.fleet.bundles) == [fakes.OAK]
    install(browser)
    members = {each.node_id for each in browser.fleet.registry.members()}
    assert set(browser.fleet.bundles) == members
    browser.post(f"{PAGE}/bundles/glue/remove", node=fakes.OAK)
    assert browser.fleet.bundles[fakes.OAK] == {}
    browser.post(f"{PAGE}/bundles/glue/remove")
    assert "there is no hook bundle glue" in browser.get(PAGE)


def test_bundle_that_nobody_signed_is_told(browser: Browser) -> None:
    assert "has no signature of a known key" in install(browser)
    browser.post(f"{PAGE}/install", bundle="text, no file")
    assert "no file was sent" in browser.get(PAGE)
    assert browser.fleet.bundles == {}


def test_bundles_are_shown_with_who_signed_and_where(browser: Browser) -> None:
    browser.post(f"{PAGE}/keys/new", name="site", pem=PEM)
    oak = browser.fleet.mirror.view.nodes[fakes.OAK]
    assert oak.facts is not None
    had = (HookBundle("glue", "7", KEY_ID), HookBundle("own", "", ""))
    facts = replace(oak.facts, hook_bundles=had)
    browser.fleet.mirror.put_node(replace(oak, facts=facts))
    page = browser.get(PAGE)
    assert f'href="{PAGE}/bundles/glue/remove"' in page
    assert "nobody known" in page


def test_strict_is_turned_on_and_off(browser: Browser) -> None:
    browser.post(f"{PAGE}/strict", strict="yes")
    assert browser.fleet.hook_rules.is_strict()
    assert "does not start" in browser.get(PAGE)
    browser.post(f"{PAGE}/strict", strict="no")
    assert not browser.fleet.hook_rules.is_strict()


def test_page_is_found_from_the_nodes(browser: Browser) -> None:
    assert f'href="{PAGE}"' in browser.get("/ui/nodes")


def test_node_shows_what_its_hooks_tell(browser: Browser) -> None:
    oak = browser.fleet.mirror.view.nodes[fakes.OAK]
    assert oak.facts is not None
    facts = replace(oak.facts, reported=(HookReport("rack", "<b7>"),))
    browser.fleet.mirror.put_node(replace(oak, facts=facts))
    assert "&lt;b7&gt;" in browser.get(f"/ui/nodes/{fakes.OAK}")


def test_center_hooks_are_shown(browser: Browser) -> None:
    assert center_hooks.FOLDER in browser.get(PAGE)
    refused = center_hooks.script("before_vm_start", "50_<i>", "chmod o-w")
    browser.fleet.center_hooks.scripts = (refused,)
    page = browser.get(PAGE)
    assert "50_&lt;i&gt;" in page
    assert "chmod o-w" in page
