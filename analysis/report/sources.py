"""What to cite: the papers of the methods, data and tools that a run used, with their BibTeX."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from analysis.frames.identity import at, attack_kind
from analysis.report.markup import Html, element, joined

_OBJECTIVES = {
    "pgd_at": "madry2018towards",
    "trades": "zhang2019trades",
    "mart": "wang2020mart",
    "avmixup": "lee2020avmixup",
}
_OPTIMIZERS = {"deat": "sun2023enhance", "adamw": "loshchilov2019adamw"}
_ATTACKS = {
    "fgsm_rs": "wong2020fast",
    "n_fgsm": "dejorge2022nfgsm",
    "free": "shafahi2019free",
    "fat": "zhang2020fat",
}
_DATA = {
    "digits": "pedregosa2011scikit",
    "cifar10": "krizhevsky2009learning",
    "cifar100": "krizhevsky2009learning",
    "svhn": "netzer2011svhn",
    "imagenet": "deng2009imagenet",
}
_EVALUATIONS = {
    "fgsm": "goodfellow2015explaining",
    "pgd": "madry2018towards",
    "cw": "carlini2017towards",
    "apgd": "croce2020autoattack",
    "autoattack": "croce2020autoattack",
}

#: Of the tools, and of the statistics that every report has.
_ALWAYS = ("paszke2019pytorch", "liaw2018tune", "holm1979simple")

#: Of the importance of hyperparameters.
IMPORTANCE = "hutter2014fanova"

_OPTUNA = "akiba2019optuna"

#: Of the published study.
PUBLISHED = ("sun2023enhance", "madry2018towards", "krizhevsky2009learning")


def cited(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of the references that go with a run, without repeats: its methods' first.

    Args:
        records: of the run.
    """
    keys: dict[str, None] = {}
    for one in records:
        if one["record"] == "trial":
            keys |= dict.fromkeys(_of_config(one["config"], str(one.get("preset") or one["point"].get("preset") or "")))
        elif one["record"] == "evaluation" and one["attack"] in _EVALUATIONS:
            keys[_EVALUATIONS[one["attack"]]] = None
        elif one["record"] == "launch" and one["size"] > len(one["wanted"]):  # points that Optuna asks for on the way
            keys[_OPTUNA] = None
    return list(keys | dict.fromkeys(_ALWAYS))


def _of_config(config: Mapping[str, Any], preset: str) -> Iterator[str]:
    """Those of one trial's method and data."""
    named = (
        (_OBJECTIVES, "objective.name"),
        (_OPTIMIZERS, "optimizer.name"),
        (_DATA, "data.name"),
    )
    for known, key in named:
        if (name := at(config, key)) in known:
            yield known[name]
    if (kind := attack_kind(config.get("attack", {}))) in _ATTACKS and at(config, "objective.name") != "natural":
        yield _ATTACKS[kind]
    if at(config, "weights.name") == "awp":
        yield "wu2020awp"
    if at(config, "objective.s2o.enabled") is True:
        yield "jin2022s2o"
    if at(config, "averaging.name") == "swa":
        yield "izmailov2018swa"
    if preset == "rice2020":
        yield "rice2020overfitting"


@functools.cache
def entries() -> Mapping[str, str]:
    """Every reference there is: its key to its BibTeX."""
    text = files("analysis").joinpath("references.bib").read_text(encoding="utf-8")
    blocks = [block.strip() for block in text.split("\n@")]
    return {block[block.index("{") + 1 : block.index(",")]: f"@{block.removeprefix('@')}" for block in blocks}


def references(keys: Iterable[str]) -> Html:
    """A list of papers, and their BibTeX folded up under it."""
    known = [entries()[key] for key in keys]
    bibtex = element("pre", "\n\n".join(known), id="bibtex")
    folded = element("details", element("summary", "BibTeX of all of them"), _copied("bibtex"), bibtex)
    return joined(element("ol", *map(_listed, known), class_="references"), folded)


def _listed(entry: str) -> Html:
    fields = dict(re.findall(r"^ {2}(\w+) = \{(.*?)\},?$", entry, re.MULTILINE))
    authors = _plain(fields["author"]).split(" and ")
    shown = ", ".join(authors) if len(authors) < 4 else f"{authors[0]} and others"
    where = fields.get("booktitle") or fields.get("journal") or fields.get("institution")
    title: object = _plain(fields["title"])
    title = element("a", title, href=fields["url"]) if "url" in fields else title
    return element("li", f"{shown}. ", title, f". {_plain(', '.join(filter(None, [where, fields['year']])))}.")


def _plain(text: str) -> str:
    """BibTeX's accents as letters."""
    return text.replace(r"{\'e}", "é").replace(r"{\"e}", "ë")


def _copied(name: str) -> Html:
    return element("button", "Copy", type="button", data_copy=name)
