"""One function per table of the paper: ours in the paper's own layout, and beside every number the paper's.

Each takes measured frames (of `odinlib.experiments`) and gives a pandas Styler that renders as a table of the
book. The rule of the verdict is stated once, in `compare.verdict`.
"""

import contextlib
import hashlib
import html
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import markupsafe
import pandas as pd
from pandas.io.formats.style import Styler
from torch import Tensor

from odinlib import datasets, experiments, metrics, reference, trained
from odinlib.compare import (
    by_another_recipe,
    is_the_papers,
    printed_accuracy,
    verdict_alone,
    verdict_on_setting,
    verdict_over_trainings,
)
from odinlib.errors import Missing
from odinlib.measure import scorecard
from odinlib.names import METHOD_TITLES, METRIC_TITLES, asked_in, listed, network_title
from odinlib.profiles import Profile

NOT_RECORDED = "<small>not recorded</small>"
#: Before a verdict, so that it is told at a glance, and not by a colour.
MARKS = {
    **{"reproduced": "✓", "near": "≈", "differs": "✗", "holds": "✓", "fails": "✗"},
    **{"within spread": "±", "other weights": "≠"},
    **{"same direction": "↗", "other direction": "↘", "not comparable": "·", "not recorded": "–"},
    **{scorecard.PARTLY: "◐", scorecard.UNDECIDED: "–"},
}


def marked(verdict: str) -> str:
    """A verdict with its mark.

    >>> marked("differs")
    '✗ differs'
    """
    return f"{MARKS.get(verdict, '·')} {verdict}"


def detection_table(
    profile: Profile, compared: pd.DataFrame, missing: Mapping[tuple[str, str, str], str] | None = None
) -> Styler:
    """Tables 2, 3 and 12 in the paper's layout: "baseline / ODIN" in each cell, and under it, small, the paper's.

    Where ODIN is measured both at the paper's own setting and at one that is chosen here: "baseline / at the paper's /
    at ours".

    Args:
        profile: for the titles.
        compared: of `compare.comparison`.
        missing: pairs that could not be measured here, and why; one line for each network and in-distribution set.
    """
    lines = {}
    shown = [method for method in METHOD_TITLES if method in set(compared.method)]
    for key, block in compared.groupby(["network", "id_set", "ood_set"], sort=False):
        lines[key] = {
            METRIC_TITLES[metric]: _pair_cell(block[block.metric == metric].set_index("method"), metric, shown)
            for metric in metrics.METRICS
        }
    index = [(_pair_title(profile, key[0], key[1]), datasets.title(key[2])) for key in lines]
    not_there: dict[tuple[str, str], list[str]] = {}
    for network, id_set, ood_set in missing or {}:
        not_there.setdefault((network, id_set), []).append(ood_set)
    for (network, id_set), ood_sets in not_there.items():
        every = len(ood_sets) > 1 and set(ood_sets) >= set(profile.ood_sets.get(id_set, ()))
        told = listed(datasets.title(s) for s in ood_sets) if len(ood_sets) <= 4 else f"{len(ood_sets)} more sets"
        told = f"all {len(ood_sets)} sets" if every else told
        index.append((_pair_title(profile, network, id_set), _small(told)))
        lines[network, id_set, told] = dict.fromkeys(METRIC_TITLES.values(), "–") | {METRIC_TITLES["fpr"]: NOT_RECORDED}
    named = pd.MultiIndex.from_tuples(index, names=["Network, in-distribution", "Out-of-distribution set"])
    return plain(pd.DataFrame(list(lines.values()), index=named), compared)


def comparison_table(profile: Profile, compared: pd.DataFrame) -> Styler:
    """Every number of `compare.comparison` on a line of its own; what is the same in all lines has no column."""
    frame = pd.DataFrame(
        {
            "Network": [network_title(n) for n in compared.network],
            "ID": [datasets.title(s) for s in compared.id_set],
            "OOD": [datasets.title(s) for s in compared.ood_set],
            "Method": [METHOD_TITLES[m] for m in compared.method],
            "Measure": [METRIC_TITLES[m] for m in compared.metric],
            "Paper": ["–" if p is None else p for p in compared.paper],
            "Ours": [f"{v:.1f}" for v in compared.value],
            "95 % interval": [
                f"{low:.1f} to {high:.1f}" for low, high in zip(compared.low, compared.high, strict=True)
            ],
            "Over trainings": [_over_trainings(row) for row in compared.itertuples()],
            "Difference": ["–" if math.isnan(d) else f"{d:+z.1f}" for d in compared.difference],
            "Verdict": [marked(verdict) for verdict in compared.verdict],
        }
    )
    if not (compared.trainings > 1).any():
        frame = frame.drop(columns="Over trainings")
    for column in ("Network", "ID", "OOD"):  # what all lines share is said by the text around the table
        if len(frame) > 1 and frame[column].nunique() == 1:
            frame = frame.drop(columns=column)
    return plain(frame, compared).hide(axis="index")


def _over_trainings(row: Any) -> str:
    """The mean over several trainings and their standard deviation; a dash where there is one."""
    return f"{row.mean:.1f} ± {row.spread:.1f} ({row.trainings})" if row.trainings > 1 else "–"


def convention_table(found: Mapping[str, pd.DataFrame]) -> Styler:
    """The same scores by the conventions of others: a line for each method and convention.

    Args:
        found: for each method, of `measure.conventions.conventions`.
    """
    titles = {"in": "in-distribution", "out": "out-of-distribution"}
    rows = []
    for method, frame in found.items():
        for one in frame.to_dict("records"):
            told = [METHOD_TITLES[method], one["who"], titles[one["positive"]], one["rate"], one["error"], one["areas"]]
            numbers = ["–" if math.isnan(one[name]) else f"{one[name]:.1f}" for name in metrics.METRICS]
            rows.append(told + numbers)
    columns = ["Method", "Who counts", "Positive kind", "The rate's threshold", "Error read", "Areas by"]
    return plain(pd.DataFrame(rows, columns=[*columns, *METRIC_TITLES.values()])).hide(axis="index")


def rounding_table(found: Mapping[tuple[float, float], pd.DataFrame]) -> Styler:
    """Measures of the softmax score kept in float32 beside the exact ones, at each setting.

    Args:
        found: for each (T, epsilon), of `measure.conventions.softmax_in_float32`.
    """
    kinds = {"float32": "softmax in float32", "exact": "margin score"}
    rows = [
        [f"{temperature:g}", f"{epsilon:g}", kinds[kind], f"{one['one']:.1f}", f"{one['distinct']:,.0f}"]
        + [f"{one[name]:.2f}" for name in metrics.METRICS]
        for (temperature, epsilon), frame in found.items()
        for kind, one in frame.to_dict("index").items()
    ]
    columns = ["T", "ε", "Ranked by", "Exactly 1 (%)", "Distinct scores"]
    return plain(pd.DataFrame(rows, columns=[*columns, *METRIC_TITLES.values()])).hide(axis="index")


def recipe_table(profile: Profile) -> Styler:
    """Every network of the run: its size, how it was trained or where it comes from, and how long it took."""
    cards = experiments.gather(lambda *key: trained.card(profile.trained(*key)), _jobs(profile))
    rows = []
    for (name, id_set), card in cards.items():
        recipe = card.get("recipe")
        told = (
            _how(recipe)
            if recipe
            else ("" if card.get("training") == "authors" else "trained by others: ") + card.get("origin", "unknown")
        )
        told += asked_in(profile.trained(name, id_set).precision)
        seconds = f"{card['seconds']:.0f} s" if "seconds" in card else "–"
        rows.append(
            [
                network_title(name),
                datasets.title(id_set),
                f"{card['parameters']:,}",
                told,
                f"{100 * card['accuracy']:.2f}" if "accuracy" in card else "not measured",
                seconds,
            ]
        )
    not_there: dict[str, list[str]] = {}
    for name, id_set in cards.missing:
        not_there.setdefault(name, []).append(datasets.title(id_set))
    rows += [[network_title(name), listed(sets), "–", NOT_RECORDED, "–", "–"] for name, sets in not_there.items()]
    columns = ["Network", "Trained on", "Parameters", "How", "Test accuracy (%)", "Training took"]
    return plain(pd.DataFrame(rows, columns=columns)).hide(axis="index")


def _how(recipe: Mapping[str, Any]) -> str:
    """How one of our own networks was trained, from its card."""
    precision = recipe.get("precision", "float32")
    return (
        f"{recipe['epochs']} epochs of batches of {recipe['batch']}, {recipe['optimiser']}, "
        f"rate {recipe['learning_rate']:g}, weight decay {recipe['weight_decay']:g}"
        f"{'' if precision == 'float32' else ', in ' + precision}"
    )


def differences(profile: Profile) -> list[str]:
    """What bears the paper's name in this run and is not the paper's: networks that others trained, a sentence each."""
    told = []
    for name, id_set in _jobs(profile):
        of = profile.trained(name, id_set)
        if not by_another_recipe(of.training):
            continue
        with contextlib.suppress(Missing):
            card = trained.card(of)
            sentence = (
                f"**{network_title(name)} on {datasets.title(id_set)}** was not trained by the paper's recipe of "
                f"{profile.recipe(name).epochs} epochs: {card.get('origin') or _how(card['recipe'])}"
            )
            if "accuracy" in card:
                sentence += f", test accuracy {100 * card['accuracy']:.2f} %"
            theirs = printed_accuracy(profile.paper_name(name), profile.paper_name(id_set))
            if theirs is not None:
                sentence += f" (the paper's network: {theirs:.2f} %)"
            told.append(f"{sentence}.")
    return told


def set_table(profile: Profile) -> Styler:
    """The out-of-distribution sets of the run, and what each stands for."""
    rows: dict[str, dict[str, Any]] = {}
    for id_set in (*profile.id_sets, profile.grey_id_set):
        for name in profile.ood_sets[id_set]:
            role = profile.paper_name(name)
            entry = rows.setdefault(
                name,
                {
                    "Set": datasets.title(name),
                    "In the role of": "itself" if role == name else reference.title(role),
                    "Resampled by": datasets.variant(name)[1] or "–",
                    "Used with": [],
                },
            )
            entry["Used with"].append(datasets.title(id_set))
    frame = pd.DataFrame(list(rows.values()))
    frame["Used with"] = frame["Used with"].map(", ".join)
    return plain(frame).hide(axis="index")


def headline_text(profile: Profile, scores: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    """One sentence with the false positive rates of Figure 1, ours and the paper's."""
    rates = {method: 100 * metrics.fpr_at_tpr(*pair, tpr=profile.tpr).item() for method, pair in scores.items()}
    told = " and ".join(
        f"{rate:.1f} % with {'the baseline' if method == METHOD_TITLES['baseline'] else method}"
        for method, rate in rates.items()
    )
    setting = experiments.headline_setting(profile)
    return (
        f"At a true positive rate of {100 * profile.tpr:g} % the false positive rate is {told} "
        f"(T = {setting.temperature:g}, ε = {setting.epsilon:g}; these are fixed, not tuned). "
        f"The paper's text gives {reference.stated('figure-1-fpr-baseline'):g} % and "
        f"{reference.stated('figure-1-fpr-odin'):g} % for its DenseNet on CIFAR-10 against Tiny ImageNet crops."
    )


def error_table(profile: Profile) -> Styler:
    """Table 1: test error rates, and the paper's for the same roles."""
    rows = {}
    for name in profile.networks[:2]:
        cells = {}
        for id_set in profile.id_sets[:2]:
            printed = reference.lookup(
                profile.paper_name(name), profile.paper_name(id_set), None, None, "test_error", table=1
            )
            same, judged = is_the_papers(profile, name, id_set), ""
            try:
                error = 100 * experiments.test_error(profile.trained(name, id_set))
                ours = f"{error:.2f}"
                judged = _judged(verdict_alone(error, printed, "test_error")) if same and printed else ""
            except Missing:
                ours = NOT_RECORDED
            told = _small(_paper_says(profile, printed, same, name, id_set))
            cells[datasets.title(id_set)] = f"{ours}<br>{told}{judged}"
        rows[network_title(name)] = cells
    return plain(pd.DataFrame(rows).T.rename_axis("Network"))


def accuracy_table(profile: Profile) -> Styler:
    """Test accuracies that the paper states in Appendix A.1 only, and ours in the same roles."""
    rows = []
    jobs = [(profile.networks[-1], s) for s in profile.id_sets[:2]]
    jobs += [(name, profile.id_sets[-1]) for name in profile.networks]
    for name, id_set in dict.fromkeys([*jobs, (profile.grey_network, profile.grey_id_set)]):
        printed = reference.lookup(profile.paper_name(name), profile.paper_name(id_set), None, None, "test_accuracy")
        try:
            ours = f"{100 - 100 * experiments.test_error(profile.trained(name, id_set)):.2f}"
        except Missing:
            ours = NOT_RECORDED
        same = is_the_papers(profile, name, id_set)
        told = _paper_says(profile, printed, same, name, id_set)
        rows.append([network_title(name), datasets.title(id_set), ours, told])
    columns = ["Network", "Trained on", "Test accuracy (%)", "The paper"]
    return plain(pd.DataFrame(rows, columns=columns)).hide(axis="index")


def elsewhere_table(profile: Profile, compared: pd.DataFrame) -> Styler:
    """What others print for a network of the run, beside the paper's number and ours, and how ours stands to theirs.

    Args:
        profile: for the roles, and for the network's accuracy.
        compared: of `compare.comparison`, with the rows of that network.
    """
    of = profile.trained(profile.grey_network, profile.grey_id_set)
    rows = []
    for cell in reference.elsewhere().itertuples():
        if (profile.paper_name(of.network), profile.paper_name(of.id_set)) != (cell.network, cell.id_set):
            continue
        ours, judged = NOT_RECORDED, ""
        if cell.metric == "test_accuracy":
            with contextlib.suppress(Missing):
                accuracy = 100 - 100 * experiments.test_error(of)
                ours, judged = f"{accuracy:.2f}", marked(verdict_alone(accuracy, cell.printed, "test_error"))
        else:
            same = (compared.metric == cell.metric) & (compared.method == cell.method)
            same &= (compared.network == of.network) & (compared.ood_set.map(profile.paper_name) == cell.ood_set)
            for row in compared[same].itertuples():
                once, over = (row.value, row.low, row.high), (row.trainings, row.mean, row.spread)
                ours = f"{row.value:.1f} {_small(f'[{row.low:.1f}, {row.high:.1f}]')}"
                ours += f"<br>{_small(_over_trainings(row))}" if row.trainings > 1 else ""
                judged = marked(verdict_over_trainings(once, cell.printed, cell.metric, *over))
        what = reference.title(cell.metric) + (f", {reference.title(cell.ood_set)}" if cell.ood_set else "")
        paper = reference.lookup(cell.network, cell.id_set, cell.ood_set or None, cell.method or None, cell.metric)
        rows.append([what, paper or "–", cell.printed + (f" {_small(cell.note)}" if cell.note else ""), ours, judged])
    columns = ["Measure", "The paper", "Their notebook", "Ours", "Ours against theirs"]
    return plain(pd.DataFrame(rows, columns=columns)).hide(axis="index")


def scorecard_table(card: pd.DataFrame) -> Styler:
    """The claims of `measure.scorecard`: where the paper makes them, the verdict and the numbers behind it."""
    marks = {
        scorecard.HOLDS: "✓ holds",
        scorecard.PARTLY: "◐ holds for {kept:,} of {cases:,}",
        scorecard.FAILS: "✗ fails",
        scorecard.UNDECIDED: "– cannot be decided here",
    }
    rows = card.to_dict("records")
    place = "§ {section}<br><small>page {page}</small>"
    frame = pd.DataFrame(
        {
            "Place": [place.format(**row).replace("§ A", "A") for row in rows],
            "Claim": [row["claim"] for row in rows],
            "Quantifier": [row["quantifier"].replace("none", "–") for row in rows],
            "Decided by": [_small(row["rule"]) for row in rows],
            "Verdict": [_verdict_cell(marks[row["verdict"]].format(**row), row) for row in rows],
            "This run": [_small(re.sub("`(.*?)`", r"<code>\1</code>", row["told"])) for row in rows],
        }
    )
    return plain(frame, card.drop(columns="told")).hide(axis="index")


def _verdict_cell(told: str, row: Mapping[str, Any]) -> str:
    """The verdict, and the interval of the share where there is one of several cases."""
    interval = f"<br>{_small(_unbroken('{low:.0f} to {high:.0f} %'.format(**row)))}" if row["cases"] > 1 else ""
    return f"<b>{told}</b>{interval}"


#: A mark for each of `record.STATES`, told apart without colour.
COVERAGE_MARKS = {"recorded": "■", "stand-in": "◪", "computable": "□", "needs data": "·", "needs weights": "×"}


def coverage_counts(counts: pd.DataFrame) -> Styler:
    """How many of the printed numbers stand how, of `record.counts`: a row for each table of the paper."""
    shown = counts.rename(columns=lambda state: f"{COVERAGE_MARKS[state]} {state}")
    shown.insert(0, "Printed", counts.sum(axis=1))
    shown.index = pd.Index([printed_in(table) for table in counts.index], name="In")
    return plain(shown).format("{:,}")


def coverage_map(cells: pd.DataFrame) -> Styler:
    """The cells of one printed table, of `record.coverage`, each a mark; the number itself is what the mark is titled.

    A row for each network, in- and out-of-distribution set, a column for each measure and tuning set, in it a mark for
    each method, in the paper's order; where a pair of sets has one number, a column for each in-distribution set.
    """
    named = cells.assign(
        mark=[
            f'<span title="{row.printed}, {row.state}" role="img" aria-label="{row.printed}, {row.state}">'
            f"{COVERAGE_MARKS[row.state]}</span>"
            for row in cells.itertuples()
        ]
    )
    for column in ("network", "id_set", "ood_set", "tuning_set", "method", "metric"):
        named[column] = named[column].map(reference.title)
    alone = (named[["tuning_set", "metric", "method"]].nunique() == 1).all()
    rows, columns = ["network", "id_set", "ood_set"], ["tuning_set", "metric"]
    if alone:
        rows, columns = ["network", "ood_set"], ["id_set"]
    rows, columns = ([name for name in names if (named[name] != "").any()] for names in (rows, columns))
    marks = named.groupby([*rows, *columns], sort=False).mark.agg(" ".join).reset_index()
    shown = marks.pivot(index=rows, columns=columns, values="mark").fillna("")
    shown = shown.reindex(index=named.set_index(rows).index.unique(), columns=named.set_index(columns).index.unique())
    titles = {"network": "Network", "id_set": "ID", "ood_set": "OOD", "tuning_set": "Tuned on", "metric": ""}
    styler = plain(shown.rename_axis(index=titles, columns=titles))
    table, methods = printed_in(cells.table.iloc[0]), [method for method in named.method.unique() if method]
    styler = styler.set_caption(f"{table}: {listed(methods)}" if methods else table)
    return styler.format(str, escape=None)  # the marks, which hold nothing but the paper's numbers and our states


def printed_in(table: str) -> str:
    """Where the paper prints what `reference.tables` calls `table`."""
    return {"all": "All", "G": "Appendix G"}.get(table, f"Table {table}")


def setting_table(profile: Profile, name: str, parameter: str) -> Styler:
    """Tables 4 to 9: the epsilon or the temperature chosen for each pair of one network, and the paper's.

    Args:
        profile: which sets.
        name: the network.
        parameter: `epsilon` or `temperature`.
    """
    rows: dict[str, dict[str, str]] = {}
    first, *others = profile.id_sets
    for id_set in (first, *others[1:], *others[:1]):  # CIFAR-10, CIFAR-80, CIFAR-100, as the paper has them here
        for ood_set in profile.ood_sets[id_set]:
            key = (profile.paper_name(name), profile.paper_name(id_set), profile.paper_name(ood_set))
            printed = reference.lookup(*key, "odin", parameter)
            judged = ""
            try:
                chosen = getattr(experiments.tune(profile.trained(name, id_set), ood_set), parameter)
                ours = f"{chosen:g}"
                if printed and is_the_papers(profile, name, id_set, ood_set):
                    judged = _judged(verdict_on_setting(chosen, printed, getattr(profile, f"{parameter}s")))
            except Missing:
                if key[2] != ood_set and key[2] in profile.ood_sets[id_set]:
                    continue  # nothing of a stand-in: the paper's number stands in the line of the set itself
                ours = NOT_RECORDED
            cell = f"{ours}<br>{_small(f'paper {printed}' if printed else 'not in the paper')}{judged}"
            rows.setdefault(datasets.title(ood_set), {})[datasets.title(id_set)] = cell
    return plain(pd.DataFrame(rows).T.fillna("–").rename_axis("Out-of-distribution set"))


def transfer_table(profile: Profile, name: str, compared: pd.DataFrame) -> Styler:
    """Tables 10 and 11: FPR on the set of each row with the parameters tuned on the set of each column.

    Args:
        profile: for the titles.
        name: the network.
        compared: columns ood_set, tuning_set, baseline, odin (in percent).
    """
    number = {0: 10, 1: 11}.get(profile.networks.index(name) if name in profile.networks else -1)
    rows: dict[str, dict[str, str]] = {}
    printed_order = list(reference.table(number).ood_set.unique()) if number else []

    def place(names: pd.Series) -> pd.Series:
        """Where the paper has a set in these tables, which is not where Table 2 has it; others stay behind."""
        roles = names.map(profile.paper_name)
        return roles.map(lambda role: printed_order.index(role) if role in printed_order else len(printed_order))

    compared = compared.sort_values(["ood_set", "tuning_set"], key=place, kind="stable")
    for row in compared.to_dict("records"):
        network, id_set, ood_set, tuning_set = (
            profile.paper_name(n) for n in (name, row["id_set"], row["ood_set"], row["tuning_set"])
        )
        printed = [
            reference.lookup(network, id_set, ood_set, method, "fpr", number, tuning_set)
            for method in ("baseline", "odin")
        ]
        told = f"paper {printed[0]} / {printed[1]}" if printed[0] else "not in the paper"
        judged = ""
        if all(printed) and is_the_papers(profile, name, row["id_set"], row["ood_set"], row["tuning_set"]):
            found = [
                verdict_alone(row[method], str(number), "fpr")
                for method, number in zip(("baseline", "odin"), printed, strict=True)
            ]
            judged = _judged(*dict.fromkeys(found))
        cell = f"{row['baseline']:.1f} / {row['odin']:.1f}<br>{_small(told)}{judged}"
        rows.setdefault(datasets.title(row["ood_set"]), {})[datasets.title(row["tuning_set"])] = cell
    return plain(pd.DataFrame(rows).T.rename_axis("Test set"))


def plain(frame: pd.DataFrame, behind: pd.DataFrame | None = None, markup: bool = True) -> Styler:
    """A Styler that renders with the theme's own table style, and to the same bytes in every run.

    Its id is that of what it holds; a second table of the same on a page is numbered. Of all text in it, labels too,
    the tags of `_MARKUP` are markup, and everything else is shown as it is written.

    Args:
        frame: what is shown.
        behind: the numbers that it is made of, where they are more than it shows; see `numbers`.
        markup: whether those tags are markup; not where names come from outside.
    """
    fingerprint = hashlib.sha256(frame.to_csv().encode()).hexdigest()[:10]
    count = _shown[fingerprint] = _shown.get(fingerprint, 0) + 1
    uuid = fingerprint if count == 1 else f"{fingerprint}-{count}"
    styler = frame.style.set_uuid(uuid).set_table_attributes('class="dataframe"')
    styler.behind = behind
    shown = _with_markup if markup else _as_written
    for axis in (0, 1):
        styler = styler.format_index(shown, axis=axis, escape="html")
    if frame.index.is_unique and frame.columns.is_unique:  # pandas has classes for no other cells
        styler = styler.set_td_classes(pd.DataFrame({name: _flow(frame[name]) for name in frame}, index=frame.index))
    return styler.format(shown, escape="html")


def _flow(column: pd.Series) -> str:
    """The class of a column's cells: numbers stay in one line, `words` may break, `prose` is read from the left."""
    lines = [line for cell in column.map(str) for line in re.sub(r"<(?!br>)[^>]*>", "", cell).split("<br>")]
    longest = max(map(len, lines), default=0)
    return "prose" if longest > 60 else "words" if any(re.search(r"[^\W\d]{3}", line) for line in lines) else ""


_MARKUP = ("<br>", "<b>", "<small>", "<code>", '<span style="white-space: nowrap">')


def _with_markup(value: Any) -> str:
    """A cell whose text is escaped already, with the tags of `_MARKUP` put back."""
    text = _as_written(value)
    for tag in _MARKUP:
        end = f"</{tag[1:].partition(' ')[0].rstrip('>')}>"
        text = text.replace(str(markupsafe.escape(tag)), tag).replace(str(markupsafe.escape(end)), end)
    return text


def _as_written(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, Real) and not isinstance(value, Integral) else f"{value}"


def numbers(table: Styler) -> str:
    """What a table of `plain` is made of, as CSV, without the marks of its cells."""
    frame = getattr(table, "behind", None)
    if frame is not None:
        return frame.to_csv(index=False, float_format="%.6g")
    plain_index = list(table.data.index) == list(range(len(table.data)))
    told = table.data.to_csv(index=not plain_index, float_format="%.6g")
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<br>", "; ", told)))


_shown: dict[str, int] = {}  # how often a table has been made here, by the digest of what it holds


def _pair_cell(block: pd.DataFrame, metric: str, methods: Sequence[str]) -> str:
    """The measured values of one pair by each method, "–" where there is none, bold where it betters the baseline."""
    baseline = block.value["baseline"]
    ours = []
    for method in methods:
        value = block.value.get(method)
        better = value is not None and (value < baseline if metric in metrics.LOWER_IS_BETTER else value > baseline)
        told = "–" if value is None else f"{value:.1f}"
        ours.append(f"<b>{told}</b>" if better else told)
    printed = [block.paper["baseline"], block.paper.iloc[-1]]
    paper = f"{printed[0]} / {printed[1]}" if printed[0] is not None else "–"
    verdicts = [block.verdict[method] for method in methods if method in block.index]
    judged = [marked(found) for found in verdicts if found not in ("not comparable", "not in the paper")]
    judged = judged[:1] if len(set(judged)) == 1 else judged  # else one for each method, in the order of the values
    count = block.trainings.max()
    over = [f"{block['mean'][m]:.1f} ± {block.spread[m]:.1f}" for m in methods if m in block.index]
    repeated = [" / ".join(map(_unbroken, over)), f"over {count} trainings"] if count > 1 else []
    small = (*repeated, *map(_unbroken, (paper, *judged)))
    return "<br>".join([_unbroken(" / ".join(ours)), *map(_small, small)])


def _jobs(profile: Profile) -> list[tuple[str, str]]:
    """Every network of the run, and what it is trained on."""
    jobs = [(name, id_set) for name in profile.networks for id_set in profile.id_sets]
    return [*jobs, (profile.grey_network, profile.grey_id_set)]


def _judged(*verdicts: str) -> str:
    """Verdicts below a cell's numbers, mark and text."""
    return "".join(f"<br>{_small(marked(one))}" for one in verdicts)


def _paper_says(profile: Profile, printed: str | None, same: bool, *names: str) -> str:
    if printed is None:
        return "not in the paper"
    roles = ", ".join(profile.paper_name(name) for name in names)
    return f"paper {printed}" if same else f"paper {printed} ({roles})"


def _pair_title(profile: Profile, name: str, id_set: str) -> str:
    return f"{network_title(name)}<br>{datasets.title(id_set)}"


def _unbroken(text: str) -> str:
    return f'<span style="white-space: nowrap">{text}</span>'


def _small(text: str) -> str:
    return f"<small>{text}</small>"
