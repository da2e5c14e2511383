"""`python -m monitoring.grafana` writes every dashboard beside this file."""

from pathlib import Path

from monitoring.grafana.board import as_json
from monitoring.grafana.dashboards import DASHBOARDS

if __name__ == "__main__":
    for board in DASHBOARDS:
        path = Path(__file__).with_name(f"{board.name}.json")
        path.write_text(as_json(board))
        print(path)
