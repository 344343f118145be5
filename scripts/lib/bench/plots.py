"""Which charts the results make: the ratios of all works, and a growth curve per work that has one."""

from bench import svg, works

# Ratios beyond it are cut, with their figure beside.
MOST_RATIO = 6.0


def ratios(results, table):
    """Bars: how many times the yardstick each peer is, per work, in its first case."""
    groups = {}
    for record in results:
        work = table[record["work"]]
        if "plot" in work or record["ratio_to_floor"] is None or record["peer"] not in works.ALL:
            continue
        if record["case"] == works.cases(work)[0]["case"]:
            groups.setdefault(record["work"], {})[record["peer"]] = record["ratio_to_floor"]
    series = [peer for peer in works.ALL if any(peer in values for values in groups.values())]
    return svg.bars("What each costs, in times the yardstick (first case of each work)",
                    list(groups.items()), series, MOST_RATIO, mark=1.0) if groups else None


def growth(results, name, work):
    """Lines: the cost of a delivery over what grows."""
    field, title = work["plot"]
    place = {each["case"]: each["load"][field] for each in works.cases(work)}
    curves = {}
    for record in results:
        value = record.get(works.metric(work))
        if record["work"] == name and value:
            curves.setdefault(record["peer"], []).append((place[record["case"]], value))
    ordered = {peer: curves[peer] for peer in works.ALL if peer in curves}
    values = [y for curve in ordered.values() for _, y in curve]
    wide = bool(values) and max(values) > 20 * min(values)
    return svg.lines(f"{name}: {work['what']}", title, "µs of CPU per delivery", ordered, log_y=wide) if ordered else None


def charts(results, table):
    """File name and text of each chart."""
    made = {"ratios.svg": ratios(results, table)}
    for name, work in table.items():
        if "plot" in work:
            made[f"growth-{work['plot'][0]}.svg"] = growth(results, name, work)
    return {name: chart for name, chart in made.items() if chart}
