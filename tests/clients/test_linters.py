# SPDX-License-Identifier: Apache-2.0
"""The description against the recommended rules of two linters: nothing to say, not even a hint."""
import json

from conftest import WORK


def test_spectral_has_nothing_to_say(node, document):
    out = node("@stoplight/spectral-cli/dist/index.js", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", "--format", "json", "openapi.json")
    assert json.loads(out[out.index("["):out.rindex("]") + 1]) == []


def test_redocly_has_nothing_to_say(node, document):
    out = node("@redocly/cli/bin/cli.js", "lint", "--extends", "recommended", "--format", "json", "openapi.json")
    report = json.loads(out[out.index("{"):out.rindex("}") + 1])
    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, report["problems"][:5]


def test_a_linter_would_say_it(node, document):
    """The linters do run: a document with a fault is not clean."""
    wrong = dict(document, paths={"/metrics": {"get": {**document["paths"]["/metrics"]["get"], "tags": ["nowhere"], "responses": {}}}})
    (WORK / "wrong.json").write_text(json.dumps(wrong))
    spectral = node("@stoplight/spectral-cli/dist/index.js", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "error", "wrong.json", ends=1)
    assert "operation-tag-defined" in spectral
    redocly = node("@redocly/cli/bin/cli.js", "lint", "--extends", "recommended", "wrong.json")
    assert "operation-2xx-response" in redocly
