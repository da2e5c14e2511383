"""What the dashboards show.

Every name in a query is checked against a running router and Triton
(tests/serving/router/test_watched.py). Shares, latency and ages are the recorded figures of
prometheus/rules.yaml, so that a panel and the alert on it never disagree.
"""

from monitoring.grafana.board import Dashboard, Panel

DAY = 86400
MISSED = 3 * DAY  # beyond it a daily run was missed (rules.yaml)
RATE = "[$__rate_interval]"
CALLS = '{path=~"/v1/.*|grpc .*"}'
TOTAL = '{stage="total"}'


def _rate(metric: str, *by: str, where: str = "") -> str:
    return (
        f"sum by ({', '.join(by)}) (rate({metric}{where}{RATE}))"
        if by
        else f"sum(rate({metric}{where}{RATE}))"
    )


def _quantile(q: float, where: str, *by: str) -> str:
    return f"histogram_quantile({q}, {_rate('mtmh_stage_seconds_bucket', 'le', *by, where=where)})"


def _of_version(metric: str) -> str:
    """For each answer of the version."""
    answers = _rate("mtmh_version_seconds_count", "version")
    return f"{_rate(f'mtmh_version_{metric}', 'version')} / {answers}"


NOW = [
    Panel("Routers ready", "Those with a version to serve and Triton in reach.",
          {"": "sum(mtmh_ready)"},
          now=True, good=1),
    Panel("Answers", "A second, over five minutes.", {"": "mtmh:answers:rate5m"}, "reqps",
          now=True),
    Panel("p99", "One answer in a hundred takes longer.", {"": "mtmh:latency_seconds:p99"}, "s",
          0.1, now=True),
    Panel("Errors", "Calls that end with 5xx.", {"": "mtmh:errors:share"}, "percentunit", 0.01,
          now=True),
    Panel("Degraded", "Answers that lack a head or the history; the worst part.",
          {"": "max(mtmh:degraded:share)"},
          "percentunit", 0.01, now=True),
    Panel("Empty", "Answers without a candidate.", {"": "mtmh:empty:share"}, "percentunit", 0.1,
          now=True),
    Panel("Index age", "Since the champion was packaged.", {"": "mtmh:index_age_seconds"}, "s",
          MISSED, now=True),
    Panel("Newest item", "Age of the newest item that can be answered; fresh is below 48 hours.",
          {"": "mtmh:newest_item_age_seconds"}, "s", MISSED, now=True),
]  # fmt: skip

ROUTER = Dashboard(
    "mtmh-router",
    "mtmh: router",
    "What users get: how fast, how often nothing, and how much of each head.",
    {
        "Now": NOW,
        "Latency": [
            Panel("Latency of answers", "From being let in to the answer.",
                  {f"p{round(100 * q)}": _quantile(q, TOTAL) for q in (0.5, 0.95, 0.99)}, "s", 0.1),
            Panel("p99 by stage",
                  "Which part of an answer takes the time; the heads run side by side.",
                  {"{{stage}}": _quantile(0.99, "", "stage")}, "s"),
            Panel("Requests in flight",
                  "Worked on at this moment; over limits.in_flight a request gets 429.",
                  {"{{instance}}": "mtmh_in_flight"}),
        ],
        "Answers": [
            Panel("Calls by status", "HTTP and gRPC; a batch is one call.",
                  {"{{status}}": _rate("mtmh_requests_total", "status", where=CALLS)}, "reqps"),
            Panel("Degraded, by what is missing", "Share of the answers.",
                  {"{{part}}": "mtmh:degraded:share"},
                  "percentunit", 0.01),
            Panel("Not answered",
                  "Share of the requests: nothing to answer with, turned away (429), or no "
                  "candidate.",
                  {"no {{part}}": "mtmh:unanswered:share", "turned away": "mtmh:shed:share",
                   "empty": "mtmh:empty:share"}, "percentunit"),
            Panel("Calls of a head without an answer",
                  "slow: out of time; gone: no such model; failed: Triton's log.",
                  {"{{head}} {{reason}}": _rate("mtmh_head_calls_failed_total", "head", "reason")},
                  "reqps"),
        ],
        "Heads": [
            Panel("Share of the candidates",
                  "A candidate that both heads offer counts for the one that has it first.",
                  {"{{head}}": "mtmh:head:share"}, "percentunit"),
            Panel("Away from alpha",
                  "Share of what the merge went through, less what alpha gives; a list that ends.",
                  {"{{head}}": "mtmh:head:off_alpha"}, "percentunit"),
            Panel("Offered by both heads",
                  "Dropped offers for each candidate answered: how alike the heads are.",
                  {"dropped":
                   f"{_rate('mtmh_duplicates_removed_total')} / "
                   f"{_rate('mtmh_merged_candidates_total')}"},
                  "percentunit"),
            Panel("Cold triggers", "Share of the triggers of which the version knows nothing.",
                  {"cold": f"{_rate('mtmh_cold_triggers_total')} / {_rate('mtmh_triggers_total')}"},
                  "percentunit"),
        ],
        "Champion and canary": [
            Panel("p99 by version", "From being let in to the answer.",
                  {"version {{version}}":
                   f"histogram_quantile(0.99, "
                   f"{_rate('mtmh_version_seconds_bucket', 'le', 'version')})"}, "s", 0.1),
            Panel("Failed or degraded, by version", "For each answer of the version.",
                  {"no answer {{version}}": _of_version("unanswered_total"),
                   "degraded {{version}}": _of_version("degraded_answers_total"),
                   "empty {{version}}": _of_version("empty_answers_total")}, "percentunit"),
            Panel("Candidates, by version", "For each answer of the version.",
                  {"version {{version}}": _of_version("candidates_total")}),
        ],
        "Experiment and log": [
            Panel("Answers by arm", "none: nobody in particular, or no experiment.",
                  {"{{arm}}": _rate("mtmh_arm_answers_total", "arm")}, "reqps"),
            Panel("Exposures and engagements", "Written to the log.",
                  {"exposures": _rate("mtmh_exposures_total", where='{logged="true"}'),
                   "engagements": _rate("mtmh_engagements_total", where='{logged="true"}')},
                   "reqps"),
            Panel("Lost", "Share of exposures and engagements that could not be written.",
                  {"lost": "mtmh:not_logged:share"}, "percentunit", 0.01),
        ],
    },
)  # fmt: skip

FRESHNESS = Dashboard(
    "mtmh-freshness",
    "mtmh: freshness of the index",
    "How old what is served is, and when it changed.",
    {
        "Ages": [
            Panel("Index age", "Since the champion was packaged; falls with every new version.",
                  {"age": "mtmh:index_age_seconds"}, "s", MISSED),
            Panel("Age of the newest item",
                  "Of those that can be answered. Fresh is younger than 48 hours.",
                  {"age": "mtmh:newest_item_age_seconds"}, "s", MISSED),
            Panel("Age of each version's newest item", "Arms may serve others than the champion.",
                  {"version {{version}}":
                   "time() - min by (version) (mtmh_index_newest_item_timestamp_seconds)"}, "s"),
        ],
        "Versions": [
            Panel("Routers by champion", "More than one for long: a rollout stands still.",
                  {"version {{version}}":
                   'count by (version) (mtmh_model_version_loaded{champion="true"})'}),
            Panel("Items", "That a version can answer.",
                  {"version {{version}}": "max by (version) (mtmh_index_items)"}),
            Panel("Taken over and refused",
                  "In an hour: champions, versions that failed, configurations read.",
                  {"taken over": "sum(increase(mtmh_version_swaps_total[1h]))",
                   "refused": "sum(increase(mtmh_versions_refused_total[1h]))",
                   "configuration {{outcome}}":
                   "sum by (outcome) (increase(mtmh_config_reloads_total[1h]))"}),
        ],
    },
)  # fmt: skip


def _mean(metric: str) -> str:
    return (
        f"1e-6 * {_rate(f'nv_inference_{metric}_us', 'model')} / "
        f"{_rate('nv_inference_request_success', 'model')}"
    )


BATCH = f"{_rate('nv_inference_count', 'model')} / {_rate('nv_inference_exec_count', 'model')}"
TRITON = Dashboard(
    "mtmh-triton",
    "mtmh: Triton",
    "The heads' models. A model is <head>_<version>; retrieve_<head>_<version> is it with the "
    "preranker behind.",
    {
        "Requests": [
            Panel("Requests", "Answered, by model.",
                  {"{{model}}": _rate("nv_inference_request_success", "model")}, "reqps"),
            Panel("Failures", "CANCELED: the router's deadline was over.",
                  {"{{model}} {{reason}}": _rate("nv_inference_request_failure", "model",
                                                 "reason")}, "reqps"),
            Panel("Waiting", "Requests that have not begun.",
                  {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"}),
            Panel("Batch size", "Requests that run together, on average.", {"{{model}}": BATCH}),
        ],
        "Time of a request, on average": [
            Panel("All", "From arrival to answer.", {"{{model}}": _mean("request_duration")}, "s"),
            Panel("Queue", "Waiting for an instance of the model.",
                  {"{{model}}": _mean("queue_duration")}, "s", 0.02),
            Panel("Work", "In the model itself.", {"{{model}}": _mean("compute_infer_duration")},
                  "s"),
        ],
        "GPU (not run: the names are those of Triton's documentation)": [
            Panel("GPU", "Share of the time in which it works.",
                  {"{{instance}} {{gpu_uuid}}": "nv_gpu_utilization"}, "percentunit"),
            Panel("GPU memory", "Of each GPU; alerts begin at 95 %.",
                  {"used {{instance}} {{gpu_uuid}}": "nv_gpu_memory_used_bytes",
                   "all {{instance}} {{gpu_uuid}}": "nv_gpu_memory_total_bytes"}, "bytes"),
            Panel("GPU power", "Used, and the most that it may.",
                  {"used {{instance}} {{gpu_uuid}}": "nv_gpu_power_usage",
                   "most {{instance}} {{gpu_uuid}}": "nv_gpu_power_limit"}, "watt"),
        ],
        "Machine": [
            Panel("CPU", "Of the machine, as Triton sees it.",
                  {"{{instance}}": "nv_cpu_utilization"}, "percentunit"),
            Panel("Memory", "Of the machine.",
                  {"used {{instance}}": "nv_cpu_memory_used_bytes",
                   "all {{instance}}": "nv_cpu_memory_total_bytes"}, "bytes"),
        ],
    },
)  # fmt: skip

DASHBOARDS = (ROUTER, FRESHNESS, TRITON)
