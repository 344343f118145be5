"""A small writer of SVG charts: bars in groups, and lines over a logarithmic x. Text is text, colours belong to series."""

import math
from xml.sax.saxutils import escape

# One per series, in this order, told apart by people who don't see red and green alike, too.
COLOURS = ("#8a94a6", "#0f62a8", "#d9822b", "#5b8c5a", "#9b4d96", "#b03a3a")
INK, PALE = "#1f2933", "#d9dee5"
FONT = "font-family=\"system-ui, sans-serif\""
# Groups of bars beside each other, and what is between them.
PER_ROW, GAP = 15, 12


def text(x, y, said, anchor="start", size=12, colour=INK, bold=False):
    weight = ' font-weight="600"' if bold else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{escape(str(said))}</text>")


def document(width, height, parts):
    """White behind it: it is shown on dark pages, too."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def legend(series, x, y):
    parts = []
    for at, name in enumerate(series):
        parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="11" height="11" fill="{colour(at)}"/>')
        parts.append(text(x + 16, y, name))
        x += 30 + 7.5 * len(name)
    return parts


def colour(at):
    return COLOURS[at % len(COLOURS)]


def short(value):
    """A figure of about three digits: 1.04, 12.3, 5,400, 2.1 M."""
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bars(title, groups, series, most, mark=None):
    """Horizontal bars. `groups`: [(name, {series: value})]; bars longer than `most` are cut; a line stands at `mark`."""
    left, width, right = 90, 760, 70
    room = width - left - right
    parts = [text(16, 26, title, size=15, bold=True), *legend(series, left, 50)]
    y = top = 68
    for name, values in groups:
        shown = [one for one in series if values.get(one) is not None]
        if not shown:
            continue
        parts.append(text(left - 10, y + len(shown) * PER_ROW / 2 + 4, name, "end", bold=True))
        for one in shown:
            value = values[one]
            long = max(1.0, room * min(value, most) / most)
            fill = colour(series.index(one))
            parts.append(f'<rect x="{left}" y="{y + 1.5:.1f}" width="{long:.1f}" height="{PER_ROW - 3}" fill="{fill}"/>')
            parts.append(text(left + long + 5, y + PER_ROW - 4, short(value) + (" »" if value > most else ""), size=11))
            y += PER_ROW
        y += GAP
    if mark is not None:
        x = left + room * mark / most
        parts.append(f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{y - GAP + 4:.1f}" stroke="{INK}" stroke-dasharray="3 3"/>')
    return document(width, round(y + 6), parts)


def nice_top(value):
    """The next round number that a quarter of is round, too."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value * 0.999)


def lines(title, x_name, y_name, curves, log_y=False):
    """Curves over a logarithmic x, each point with its figure. `curves`: {series: [(x, y)]}."""
    width, height, left, right, top, bottom = 760, 380, 70, 36, 90, 50
    points = [point for curve in curves.values() for point in curve]
    parts = [text(16, 26, title, size=15, bold=True), *legend(list(curves), left, 50)]
    if not points:
        return document(width, height, parts)
    xs = sorted({x for x, _ in points})
    least, most = math.log10(xs[0]), math.log10(xs[-1])
    ys = [y for _, y in points if y > 0] or [1]
    low, high = (math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) or 1)) if log_y else (0.0, nice_top(max(ys)))
    high = high if high > low else low + 1

    def across(x):
        return left + (width - left - right) * ((math.log10(x) - least) / (most - least) if most > least else 0.5)

    def up(y):
        part = ((math.log10(max(y, 10.0**low)) if log_y else y) - low) / (high - low)
        return height - bottom - (height - top - bottom) * part

    ticks = [10 ** step for step in range(int(low), int(high) + 1)] if log_y else [high * part / 4 for part in range(5)]
    for tick in ticks:
        parts.append(f'<line x1="{left}" y1="{up(tick):.1f}" x2="{width - right}" y2="{up(tick):.1f}" stroke="{PALE}"/>')
        parts.append(text(left - 8, up(tick) + 4, short(tick), "end", size=11))
    for x in xs:
        parts.append(text(across(x), height - bottom + 18, short(x), "middle", size=11))
    parts.append(text(left + (width - left - right) / 2, height - 10, x_name, "middle"))
    parts.append(text(16, top - 14, y_name, size=11))
    for at, curve in enumerate(curves.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in sorted(curve))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour(at)}" stroke-width="2"/>')
        for x, y in curve:
            parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5" fill="{colour(at)}"/>')
            # Above the highest point of a place, below the others.
            above = y >= max(other for place, other in points if place == x)
            parts.append(text(across(x), up(y) + (-8 if above else 16), short(y), "middle", size=10, colour=colour(at)))
    return document(width, height, parts)
