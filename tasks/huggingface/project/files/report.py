"""Write the report of the run: `python report.py --config config.yaml`.

Reads what the other scripts left and writes `reports/chart_*.png`, `reports/report.pdf` and
`reports/report.html`; the last is one file that needs no other and no network.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import report_charts
import report_data
import report_page
import report_pdf


def main(arguments: list[str] | None = None) -> int:
    """Draw everything, then write it."""
    options = _parser().parse_args(arguments)
    results = report_data.read(Path(options.config))
    charts = report_charts.charts_of(results)
    pictures = {chart.name: report_charts.png(chart) for chart in charts if chart.draw}
    dark = {
        chart.name: report_charts.png(chart, dark=True) for chart in charts if chart.draw and chart.on_page
    }
    files = {f"{name}.png": picture for name, picture in pictures.items()}
    files["report.pdf"] = report_pdf.pdf(results, charts)
    files["report.html"] = report_page.page(results, charts, pictures, dark).encode()
    folder = results.folder / "reports"
    for chart in charts:
        if not chart.draw:  # of an earlier run
            (folder / f"{chart.name}.png").unlink(missing_ok=True)
    for name, content in files.items():
        write(folder / name, content)
    print(f"REPORT: {folder / 'report.html'}, report.pdf and {len(pictures)} charts")
    for chart in charts:
        if chart.missing:
            print(f"{chart.title}: {chart.missing}")
    return 0


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write the charts, the PDF and the HTML of this run.")
    parser.add_argument("--config", default="config.yaml")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
