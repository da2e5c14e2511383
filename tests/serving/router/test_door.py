"""Types, sizes and times of what is asked, and pages of other sites."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from helpers.live_router import Router, Run
from test_guard import TOKEN, said

from serving.router import schema

NUMBERS = ["5", " 7 ", "1_0", 5.0, True, "", [5], {"k": 5}]


@pytest.fixture(scope="module")
def logging_router(run_router: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with run_router(f"log.directory={tmp_path_factory.mktemp('log') / 'log'}") as running:
        yield running


@pytest.fixture(scope="module")
def with_token(run_router: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    file = tmp_path_factory.mktemp("secrets") / "token"
    file.write_text(TOKEN)
    with run_router(f"auth.token_file={file}", token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("k", NUMBERS, ids=repr)
def test_k_is_a_whole_number_alone(router: Router, k: object) -> None:
    for call, body in (
        ("retrieve", {"triggers": ["i00"]}),
        ("similar", {"item_id": "i00"}),
        ("compare", {}),
    ):
        said(router.client.post(f"/v1/{call}", json={**body, "k": k}), 422, "k: ")
    said(
        router.client.post(
            "/v1/retrieve/batch", json={"requests": [{"triggers": ["i00"], "k": k}]}
        ),
        422,
        "k: ",
    )


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"alpha": "50"}, "alpha"),
        ({"alpha": True}, "alpha"),
        ({"user_id": 3}, "user_id"),
        ({"triggers": [5]}, "triggers.0"),
        ({"triggers": "i00"}, "triggers"),
        ({"filters": {"exclude_seen": "true"}}, "filters.exclude_seen"),
        ({"filters": {"max_age_hours": "5"}}, "filters.max_age_hours"),
        ({"triggers": [{"item_id": "x", "id_features": {"creator_id": 5}}]}, "triggers.0"),
        ({"triggers": [{"item_id": "x", "content": ["1"]}]}, "triggers.0"),
    ],
)
def test_every_other_value_has_its_own_type_too(router: Router, asked: dict, where: str) -> None:
    said(router.client.post("/v1/retrieve", json=asked), 422, where)


def test_a_whole_number_may_stand_where_a_fraction_may(router: Router) -> None:
    answer = router.retrieve(triggers=["i00"], alpha=30, k=3)
    assert answer["alpha"] == 30


@pytest.mark.parametrize("limit", ["+7+", "%207", "1_0", "5.0", "1e1", "true", "", "-1", "%D9%A5"])
def test_a_number_in_an_address_is_digits_alone(router: Router, limit: str) -> None:
    said(router.client.get(f"/v1/items?limit={limit}"), 422, "limit")
    assert router.client.get("/v1/items?limit=7").status_code == 200


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"a%05d":1' % number for number in range(count)) + b"}"


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("retrieve", keys(30_000)),
        ("retrieve", b'{"filters":' + keys(30_000) + b"}"),
        ("retrieve", b'{"triggers":[{"item_id":"x","float_features":' + keys(30_000) + b"}]}"),
        ("retrieve", b"{" + b",".join([b'"a":1'] * 60_000) + b"}"),
        ("retrieve/batch", keys(90_000)),
        (
            "retrieve/batch",
            json.dumps({"requests": [{"triggers": [{} for _ in range(50)]}] * 32}).encode(),
        ),
        (
            "engagements",
            json.dumps({"engagements": [{f"k{n}": 1 for n in range(60)}] * 1000}).encode(),
        ),
        (
            "retrieve",
            b'{"triggers":[{"item_id":"x","content":[' + b",".join([b'"a"'] * 4000) + b"]}]}",
        ),
    ],
    ids=["keys", "filters", "features", "one_key", "batch", "triggers", "engagements", "content"],
)
def test_many_faults_are_told_by_the_first(
    router: Router, monkeypatch: pytest.MonkeyPatch, call: str, body: bytes
) -> None:
    counts: list[int] = []
    explain = schema.explain

    def counted(errors: Sequence[Any]) -> str:
        counts.append(len(errors))
        return explain(errors)

    monkeypatch.setattr(schema, "explain", counted)
    answer = router.client.post(
        f"/v1/{call}", content=body, headers={"content-type": "application/json"}
    )
    error = said(answer, 422)["error"]
    assert len(error) < 2000
    assert sum(counts) < 300  # pydantic made no more errors than that


@pytest.mark.parametrize(("call", "kb"), [("retrieve", 512), ("similar", 128), ("compare", 512)])
def test_a_call_takes_no_more_than_it_needs(router: Router, call: str, kb: int) -> None:
    body = b" " * (1024 * kb + 1)
    said(router.client.post(f"/v1/{call}", content=body), 413, f"{kb} KB")


def test_as_many_new_items_as_may_be_asked_fit(router: Router) -> None:
    content = [0.1234567890123456] * 384
    asked = {"triggers": [{"item_id": f"new{n}", "content": content} for n in range(50)]}
    said(
        router.client.post("/v1/retrieve", json=asked), 422, "this version's have"
    )  # read, not too large


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"dwell_seconds": 86_401}, ["dwell_seconds", "86400"]),
        ({"dwell_seconds": 1e9}, ["dwell_seconds"]),
        ({"dwell_seconds": "5"}, ["dwell_seconds"]),
        ({"value": 1e30}, ["value"]),
        ({"value": True}, ["value"]),
        ({"timestamp": "9999-12-31T23:59:59Z"}, ["timestamp", "9999", "limits.engagement_days"]),
        ({"timestamp": "0001-01-01T00:00:00Z"}, ["timestamp", "limits.engagement_days"]),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, ["timestamp"]),
        ({"timestamp": (NOW + timedelta(hours=1)).isoformat()}, ["timestamp"]),
        ({"timestamp": (NOW - timedelta(days=366)).isoformat()}, ["timestamp"]),
        ({"timestamp": 1_700_000_000}, ["timestamp"]),
        ({"timestamp": "1700000000"}, ["timestamp"]),
        ({"timestamp": "2026-01-02T03:04:05"}, ["timestamp"]),
    ],
    ids=repr,
)
def test_an_engagement_is_of_this_life_and_of_now(
    logging_router: Router, fault: dict[str, Any], words: list[str]
) -> None:
    good = {"user_id": "u03", "item_id": "i00"}
    logged = logging_router.metric("mtmh_engagements_total", logged="true")
    answer = logging_router.client.post(
        "/v1/engagements", json={"engagements": [good, good | fault]}
    )
    said(answer, 422, "engagements.1", *words)
    assert (
        logging_router.metric("mtmh_engagements_total", logged="true") == logged
    )  # none of them is kept


def test_an_engagement_at_the_bounds_is_kept(logging_router: Router) -> None:
    late = (datetime.now(UTC) - timedelta(days=364)).isoformat()
    ahead = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    good = {"user_id": "u03", "item_id": "i00", "dwell_seconds": 86_400, "value": -1}
    asked = {"engagements": [good | {"timestamp": late}, good | {"timestamp": ahead}]}
    assert logging_router.post("/v1/engagements", asked)["logged"] == 2


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "file://"]
)
def test_a_page_of_another_site_may_not_ask(router: Router, origin: str) -> None:
    for call in ("retrieve", "engagements", "similar", "compare", "retrieve/batch"):
        answer = router.client.post(f"/v1/{call}", json={}, headers={"origin": origin})
        said(answer, 403, "auth.token_file")


def test_nor_may_one_that_gives_this_machine_a_name_of_its_own(router: Router) -> None:
    headers = {
        "origin": f"http://evil.example:{router.port}",
        "host": f"evil.example:{router.port}",
    }
    said(router.client.post("/v1/retrieve", json={"triggers": ["i00"]}, headers=headers), 403)


def test_the_routers_own_page_may_ask(router: Router) -> None:
    headers = {"origin": f"http://127.0.0.1:{router.port}"}
    assert (
        router.client.post("/v1/retrieve", json={"triggers": ["i00"]}, headers=headers).status_code
        == 200
    )


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]
)
def test_what_is_declared_as_no_json_is_not_read(router: Router, kind: str) -> None:
    body = json.dumps({"triggers": ["i00"]})
    said(
        router.client.post("/v1/retrieve", content=body, headers={"content-type": kind}),
        415,
        "application/json",
    )


@pytest.mark.parametrize("second", ["Bearer wrong", f"Bearer {TOKEN}", ""])
def test_of_two_tokens_none_counts(with_token: Router, second: str) -> None:
    with httpx.Client(base_url=with_token.client.base_url) as stranger:
        for pair in ((f"Bearer {TOKEN}", second), (second, f"Bearer {TOKEN}")):
            headers = [("authorization", value) for value in pair]
            answer = stranger.post("/v1/retrieve", json={"triggers": ["i00"]}, headers=headers)
            said(answer, 401, "twice")
