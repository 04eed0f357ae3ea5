"""Verdicts as JUnit XML: a suite a sheet, a test case a row.

FAIL is a failure, INVALID an error, INCONCLUSIVE skipped, or whatever it is to count as. JUnit has no word
for "cannot be said": skipped is what CI systems show without turning red.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree as Xml

from reports.verdicts import Row, Sheet

# What XML 1.0 has no way to write.
_FOREIGN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(sheets: Sequence[Sheet], on_inconclusive: Literal["pass", "fail"] | None = None) -> str:
    """The file's text."""
    root = Xml.Element("testsuites", name="streamgauge")
    total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for sheet in sheets:
        suite = Xml.SubElement(root, "testsuite", name=clean(sheet.title))
        counts = dict.fromkeys(total, 0)
        for row in sheet.rows:
            counts["tests"] += 1
            what = _case(suite, sheet, row, on_inconclusive)
            if what is not None:
                counts[what] += 1
        for name, n in counts.items():
            suite.set(name, str(n))
            total[name] += n
    for name, n in total.items():
        root.set(name, str(n))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _case(
    suite: Xml.Element, sheet: Sheet, row: Row, on_inconclusive: Literal["pass", "fail"] | None
) -> str | None:
    case = Xml.SubElement(suite, "testcase", classname=clean(sheet.title), name=clean(row.name))
    told = "\n".join([f"{row.name}: {row.words}", *row.notes])
    failed = row.verdict == "FAIL" or (row.verdict == "INCONCLUSIVE" and on_inconclusive == "fail")
    message = clean(f"{row.verdict}: {row.words}")
    if failed:
        Xml.SubElement(case, "failure", type=row.verdict, message=message).text = clean(told)
        return "failures"
    if row.verdict == "INVALID":
        Xml.SubElement(case, "error", type=row.verdict, message=message).text = clean(told)
        return "errors"
    if row.verdict == "INCONCLUSIVE" and on_inconclusive != "pass":
        Xml.SubElement(case, "skipped", message=message)
        return "skipped"
    Xml.SubElement(case, "system-out").text = clean(told)
    return None


def clean(text: str) -> str:
    """A text without what XML cannot hold."""
    return _FOREIGN.sub("\ufffd", text)
