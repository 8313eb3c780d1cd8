"""Tables and curves of a run: markdown, csv, json, svg."""

import csv
import json
import math
from html import escape
from itertools import groupby
from pathlib import Path

COLUMNS = ["suite", "peer", "dtype", "b", "n", "d", "excludes", "ms", "ms_low", "ms_high", "ms_min", "tflops",
           "of_ceiling", "over_ours", "peak_mib", "loss_error", "d_users_error", "d_items_error", "note"]

NOTES = """\
- `ms`: median over the rounds of one step (loss and both gradients); `ms_low`, `ms_high`: quartiles.
- `tflops`: 8 B N D over the time (6 for a bank's columns, which have no gradient); `of_ceiling`: that over the rate of a
  square matrix product in the same type, measured in the same run.
- `over_ours`: median over the rounds of the peer's time over ours in the same round.
- `peak_mib`: peak memory of a step beyond inputs and outputs; on a GPU what the allocator handed out.
- `excludes`: whether it leaves out accidental hits. One that cannot has less to do.
- Errors: relative distance from float64 under the meaning that the implementation gives the problem, inputs rounded to
  its type. No error: the problem is too large for the check, and smaller ones were checked.
- `note`: why there is no time.
"""


def format_cell(row: dict, column: str) -> str:
    value = row.get(column, "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value).replace("|", "/")
    if column.endswith("error"):
        return f"{value:.1e}"
    if column in ("over_ours", "of_ceiling"):
        return f"{value:.2f}"
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def to_markdown(rows: list[dict]) -> str:
    table = [COLUMNS, ["---"] * len(COLUMNS)] + [[format_cell(row, column) for column in COLUMNS] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def save(record: dict, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{record['machine']['date'][:10]}-{name}"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(record["results"])
    machine = "\n".join(f"- {field}: {value}" for field, value in record["machine"].items())
    ceilings = "".join(f"- matmul ceiling, {dtype}: {rate:.4g} TFLOP/s\n"
                       for dtype, rate in record["ceilings_tflops"].items())
    failures = "".join(f"- **failed**: {failure}\n" for failure in record["failures"])
    stem.with_suffix(".md").write_text(
        f"# {name}: inbatch and others\n\n{machine}\n{ceilings}{failures}\n![times]({stem.name}.svg)\n\n"
        f"{to_markdown(record['results'])}\n\n{NOTES}")
    stem.with_suffix(".svg").write_text(to_svg(record["results"]))
    print(f"written: {stem}.json, .csv, .md, .svg")


WIDTH, HEIGHT, LEFT, TOP, INNER_WIDTH, INNER_HEIGHT = 560, 340, 70, 40, 330, 240
COLOURS = ["#0b62a4", "#d1495b", "#3a7d44", "#8d6a9f", "#c77d0a", "#52796f", "#333333"]


def to_svg(rows: list[dict]) -> str:
    """A panel for each suite, type and dimension (and batch of a bank sweep): time over N, both axes by decades."""

    def key(row: dict) -> tuple:
        return row["suite"], row["dtype"], row["d"], row["b"] if row["suite"] == "bank" else 0

    peers = list(dict.fromkeys(row["peer"] for row in rows))
    timed = sorted((row for row in rows if "ms" in row), key=key)
    panels = [panel(group, list(points), peers) for group, points in groupby(timed, key)]
    body = "\n".join(f'<g transform="translate(0 {index * HEIGHT})">{text}</g>' for index, text in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * max(len(panels), 1)}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n{body}</svg>\n')


def decades(values: list[float], base: float) -> tuple[float, float]:
    low, high = (math.log(bound, base) for bound in (min(values), max(values)))
    return math.floor(low - 1e-9), max(math.ceil(high + 1e-9), math.floor(low) + 1)


def panel(group: tuple, rows: list[dict], peers: list[str]) -> str:
    suite, dtype, dim, batch = group
    (left, right), (bottom, top) = decades([r["n"] for r in rows], 2), decades([r["ms"] for r in rows], 10)

    def x(n: float) -> float:
        return LEFT + (math.log2(n) - left) / (right - left) * INNER_WIDTH

    def y(ms: float) -> float:
        return TOP + (top - math.log10(ms)) / (top - bottom) * INNER_HEIGHT

    size = f", B = {batch}" if batch else ", B = N"
    text = [f'<text x="{LEFT}" y="22" font-size="14">{escape(f"{suite}, {dtype}, D = {dim}{size}: ms a step over N")}</text>']
    for decade in range(bottom, top + 1):
        text.append(f'<line x1="{LEFT}" x2="{LEFT + INNER_WIDTH}" y1="{y(10**decade):.1f}" y2="{y(10**decade):.1f}" '
                    f'stroke="#ddd"/><text x="{LEFT - 6}" y="{y(10**decade) + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for n in sorted({row["n"] for row in rows}):
        text.append(f'<text x="{x(n):.1f}" y="{TOP + INNER_HEIGHT + 18}" text-anchor="middle">{n}</text>')
    present = [peer for peer in peers if any(row["peer"] == peer for row in rows)]
    for place, peer in enumerate(present):
        colour = COLOURS[peers.index(peer) % len(COLOURS)]
        points = sorted((row["n"], row["ms"], row["ms_low"], row["ms_high"]) for row in rows if row["peer"] == peer)
        line = " ".join(f"{x(n):.1f},{y(ms):.1f}" for n, ms, *_ in points)
        text.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for n, ms, low, high in points:
            text.append(f'<line x1="{x(n):.1f}" x2="{x(n):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}"/>'
                        f'<circle cx="{x(n):.1f}" cy="{y(ms):.1f}" r="3" fill="{colour}"/>')
        height = TOP + 12 + 18 * place
        text.append(f'<circle cx="{LEFT + INNER_WIDTH + 16}" cy="{height - 4}" r="4" fill="{colour}"/>'
                    f'<text x="{LEFT + INNER_WIDTH + 26}" y="{height}">{escape(peer)}</text>')
    return "\n".join(text)
