"""The whole page: answers, figures, every trial, cost and origin of a run, in one file that asks nobody for anything.

No script of a page can run but those that are in it when it is written, which its policy names by their hashes; text of
others is escaped besides. What lies in the page's address (`#...`) is how its table is sorted and filtered, and which
trial is shown.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from pandas import DataFrame

from analysis import figures
from analysis.claims.ledger import Claim, ledger
from analysis.claims.study import published as published_study
from analysis.estimates.evaluator import Evaluator
from analysis.frames.cells import nothing_completed
from analysis.frames.log import Log, read_log
from analysis.frames.trials import epochs_of, trials_of
from analysis.paper.parts import published_data
from analysis.plots.plan import BY_VAL_ROBUST, ChosenBy, Data, Product
from analysis.report.columns import trials_data
from analysis.report.cost import cost
from analysis.report.head import head
from analysis.report.markup import Html, data, element, joined
from analysis.report.origin import origin
from analysis.report.pictures import not_drawn, pictures, tables
from analysis.report.settings import best_settings
from analysis.report.sources import IMPORTANCE, cited, references
from analysis.report.sources import PUBLISHED as PUBLISHED_SOURCES
from analysis.report.verdicts import verdicts

#: In the order they run: of others, then the page's own.
_SCRIPTS = (
    *("vendored/echarts.min.js", "vendored/tabulator.min.js"),
    *(f"browser/{name}.js" for name in ("state", "table", "charts", "trial", "edges", "start")),
)
_STYLES = ("vendored/tabulator.min.css", "browser/page.css")

#: Runs before anything is shown.
_FIRST = "browser/theme.js"

_PUBLISHED_TITLE = "Enhance Diffusion to Improve Robust Generalization: the published study"

_HOW_TO_FILTER = (
    "Filter under a column's name: by a part of its text, or by a number: 0.1, >0.1, <=20, 0.1..0.2. "
    "A trial's id opens its curves, its log and its settings."
)

Section = tuple[str, str, Html | None]
"""Its name in an address, its heading, and what is in it; None: it is left out."""


def page(
    directory: Path | None,
    *,
    metric: str = "last_test_robust",
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    published: bool = False,
    evaluator: Evaluator | None = None,
    question: str = "",
    live: bool = False,
) -> str:
    """The page of a run, of the published study, or of both.

    Args:
        directory: a run, as given to `sweep launch --out`; None: the published study alone.
        metric: what figures and claims are about, a column of `analysis.frames.trials.load_trials`.
        chosen_by: what the sweep chooses by.
        published: show the published study beside the run.
        evaluator: of hyperparameters' importance, as `sweep.search.optuna_importance` has it; None: nothing is said.
        question: what the sweep is to answer, as its config says; empty: nothing is said.
        live: whether the page asks for `version` beside itself every three seconds, and is loaded anew once that has
            changed.

    Returns:
        HTML, the same for the same records.

    Raises:
        UserError: the directory is not a run, a line is damaged, or there is no such metric.
    """
    log = None if directory is None else read_log(directory)
    trials = None if log is None else trials_of(log)
    shown: Data | None = None
    if directory is None or log is None or trials is None:
        shown = published_data(metric)
        trials = shown.trials
    elif (trials["outcome"] == "completed").any():
        shown = figures.of_log(directory, log, metric, chosen_by, published=published, evaluator=evaluator)
    epochs = epochs_of(log) if log is not None else shown.epochs if shown is not None else DataFrame()
    title = _PUBLISHED_TITLE if directory is None else directory.absolute().name
    beginning = head(title, question, trials, log, metric)
    sections = [one for one in _sections(directory, trials, log, shown, published) if one[2] is not None]
    values = data("data", trials_data(trials, epochs, log, metric))
    return _document(title, joined(beginning, *(_section(*one) for one in sections)), values, sections, live)


def _sections(
    directory: Path | None, trials: DataFrame, log: Log | None, shown: Data | None, published: bool
) -> Iterator[Section]:
    made, skipped = ([], {}) if shown is None else figures.products(shown)
    if shown is None:
        yield "answers", "Answers", element("p", f"No answers yet: {nothing_completed(trials, 'to judge')}.")
    else:
        yield "answers", "Answers", _answers(shown, directory, published)
        yield "settings", "Best settings", None if log is None else best_settings(shown, shown.claims, log)
        yield "figures", "Figures", _drawn(made, skipped)
    yield "trials", "Trials", _explorer()
    if log is not None:
        yield "cost", "Plan and cost", cost(trials, log)
    yield "origin", "Where this comes from", origin(trials, log, shown, directory)
    keys = [*(PUBLISHED_SOURCES if published or log is None else ()), *([] if log is None else cited(log))]
    keys += [IMPORTANCE for one in made if one.name == "importance"]
    yield "references", "References", references(dict.fromkeys(keys))


def _answers(shown: Data, directory: Path | None, published: bool) -> Html:
    """The ledger of the run, and that of the published study."""
    of_study: tuple[Claim, ...] = ledger(published_study(), y=shown.metric) if published or directory is None else ()
    if directory is None:
        return verdicts(of_study)
    beside = joined(element("h3", "The published study", class_="beside"), verdicts(of_study)) if published else None
    return joined(verdicts(shown.claims), beside)


def _drawn(made: list[Product], skipped: Mapping[str, str]) -> Html:
    larger = element("p", "A click on a figure makes it larger.", class_="note") if made else None
    return joined(larger, element("div", pictures(made), class_="figures"), tables(made), not_drawn(skipped))


def _explorer() -> Html:
    """What the scripts fill: views of the trials, the table, and one trial."""
    views = [("parallel", "Parallel coordinates"), ("scatter", "Scatter"), ("curves", "Curves")]
    tabs = [
        element("button", title, type="button", role="tab", data_view=name, aria_controls="view")
        for name, title in views
    ]
    searched = element("input", type="search", id="search", placeholder="Search all columns", aria_label="Search")
    outcomes = element("div", id="outcomes", role="group", aria_label="Outcomes")
    reset = element("button", "Reset", type="button", id="reset")
    return joined(
        element("div", *tabs, role="tablist", class_="tabs", aria_label="Views of the trials"),
        element("div", id="view-options", class_="options"),
        element("div", id="view", role="tabpanel", tabindex="0"),
        element("p", id="view-note", class_="note"),
        element("div", searched, outcomes, reset, element("span", id="count", aria_live="polite"), class_="tools"),
        element("p", _HOW_TO_FILTER, class_="note"),
        element("div", id="table"),
        element("noscript", element("p", "The table and the charts need JavaScript, which is turned off here.")),
        element("dialog", id="trial", aria_labelledby="trial-title"),
    )


def _section(name: str, title: str, content: Html | None) -> Html:
    return element("section", element("h2", title), content, id=name)


def _document(title: str, body: Html, values: Html, sections: list[Section], live: bool) -> str:
    first, scripts = _read(_FIRST), [_read(name) for name in (*_SCRIPTS, *(["browser/live.js"] if live else []))]
    links = [element("a", heading, href=f"#{name}") for name, heading, _ in sections]
    theme = element("button", "Theme", type="button", id="theme", aria_label="Light or dark")
    policy = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hashed, [first, *scripts]))}",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "connect-src 'self'" if live else "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content="; ".join(policy)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{title} · sweep report"),
        *(Html(f"<style>{_read(name)}</style>") for name in _STYLES),
        Html(f"<script>{first}</script>"),
    ]
    home = element("a", title, href="#top", class_="home")
    nav = element("nav", home, element("div", *links, class_="links"), theme, aria_label="Sections")
    ends = [values, *(Html(f"<script>{script}</script>") for script in scripts)]
    skip = element("a", "To the answers", href="#answers", class_="skip")
    whole = joined(element("head", *parts), element("body", skip, nav, element("main", body), *ends))
    return f'<!doctype html>\n<html lang="en">{whole}</html>\n'


@functools.cache
def _read(name: str) -> str:
    return files("analysis.report").joinpath(*name.split("/")).read_text(encoding="utf-8")


def _hashed(script: str) -> str:
    """A script as a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
