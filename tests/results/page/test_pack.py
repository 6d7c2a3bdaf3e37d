"""Nothing in a page's data can end the element that holds it, and packing is exact."""

import base64
import gzip
import json
import re

import pytest

from gradflow.results.page.document import document, plotly, source
from gradflow.results.page.pack import code_for_script, encoded, for_script, packed, rounded, stamp

NASTY = "</script><script>alert(1)</script><!-- \u2028\u2029 & ' \" \\ é 漢 \U0001f600"


def test_json_for_a_script_is_the_same_json_without_a_sign_of_html():
    text = for_script(encoded({NASTY: [NASTY, 1.5, None, True]}))
    assert json.loads(text) == {NASTY: [NASTY, 1.5, None, True]}
    assert not set("<>&\u2028\u2029") & set(text)


def test_code_for_a_script_says_the_same_to_javascript():
    assert code_for_script('a = "</script>" + /<!--/') == 'a = "<\\/script>" + /<\\!--/'


def test_a_part_is_gzip_in_base64_without_a_time():
    content = encoded([NASTY] * 1000).encode()
    assert gzip.decompress(base64.b64decode(packed(content))) == content
    assert packed(content) == packed(content)
    assert base64.b64decode(packed(content))[4:8] == bytes(4)  # the time of RFC 1952
    assert stamp(content) != stamp(content + b" ")


@pytest.mark.parametrize(
    ("value", "digits", "short"),
    [
        (1.23456789, 4, 1.235),
        (-0.000123456, 3, -0.000123),
        (1e300, 4, 1e300),
        (123456.0, 4, 123500),
        (7, 1, 7),
        (True, 4, True),
        ({"a": (0.1 + 0.2, float("inf"))}, 6, {"a": [0.3, None]}),
    ],
)
def test_numbers_are_rounded_to_significant_digits(value, digits, short):
    assert rounded(value, digits) == short
    assert type(rounded(value, digits)) is type(short)


def test_json_refuses_what_no_browser_can_read():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoded([float("nan")])


def test_the_document_holds_its_data_and_each_part_once():
    boot = {"title": NASTY, "version": "1", "summary": NASTY, "live": False}
    html = document(boot, {"runs": {"id": [NASTY]}, "plotly": "var a = '</script>';"})
    inside = re.search(r'<script type="application/json" id="boot">(.*?)</script>', html, re.S)
    said = json.loads(inside[1])
    assert said["title"] == said["summary"] == NASTY
    assert said["parts"] == {"runs": stamp(encoded({"id": [NASTY]}).encode())}
    texts = dict(re.findall(r'<script type="application/octet-stream" id="part:(\w+)">([\w+/=]*)</script>', html))
    assert json.loads(gzip.decompress(base64.b64decode(texts["runs"]))) == {"id": [NASTY]}
    assert gzip.decompress(base64.b64decode(texts["plotly"])) == b"var a = '</script>';"
    assert "alert(1)</script>" not in html


def test_what_the_page_is_made_of_is_there():
    assert b"plotly.js v" in plotly()[:300]
    assert "Tabulator" in source("vendor/tabulator.min.js")
