"""What is read of PromQL, and what is said of names that nobody tells."""

import pytest

from monitoring.prometheus.queries import Query, exported, names, unknown

PAGE = """\
# TYPE hits counter
hits_total{path="/a",status="200"} 3
# TYPE waits histogram
waits_bucket{stage="all",le="1.0"} 1
waits_bucket{stage="all",le="+Inf"} 1
waits_count{stage="all"} 1
waits_sum{stage="all"} 0.5
# TYPE nv_requests counter
nv_requests 7
"""


@pytest.mark.parametrize(
    ("text", "metrics", "grouped"),
    [
        ("up", {"up": set()}, set()),
        ('sum by (a, b) (rate(x_total{c="}) by (q)", d=~"e|f"}[5m]))', {"x_total": {"c", "d"}}, {"a", "b"}),
        ("sum(rate(x[$__rate_interval])) / on (a) group_left (b) y offset 1h", {"x": set(), "y": set()}, {"a", "b"}),
        ("histogram_quantile(0.9, sum(x) by (le)) > bool 2e3 and z or vector(0)", {"x": set(), "z": set()}, {"le"}),
        ("m:n:rate5m{a='b'} unless absent(q{c!=\"\"})", {"m:n:rate5m": {"a"}, "q": {"c"}}, set()),
    ],
)  # fmt: skip
def test_names_of_a_query(text: str, metrics: dict[str, set[str]], grouped: set[str]) -> None:
    assert names(text) == (metrics, grouped)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('sum by (status) (rate(hits_total{path="/a", instance="x"}[5m]))', []),
        ("histogram_quantile(0.5, sum by (le, stage) (waits_bucket)) + on () nv_requests", []),
        ("hits", ["here: no metric hits"]),
        ("rate(hits_total{sttus='200'}[5m])", ["here: hits_total has no label sttus"]),
        ("sum by (stage) (hits_total)", ["here: groups by stage, which none of its metrics has"]),
        ("figure{status='200'} > 0", []),
        ("figure{path='/a'} > 0", ["here: figure has no label path"]),  # summed away
    ],
)
def test_what_nobody_tells_is_named_with_its_place(text: str, said: list[str]) -> None:
    recorded = Query("rules", "sum by (status) (hits_total)", "figure")
    assert unknown([recorded, Query("here", text)], exported(PAGE)) == said
