"""KuaiRand as it is published: logs and features of videos, and the two files added later."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mtmh.data.importers import check, fingerprint, read, write_contract
from mtmh.errors import UserError

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
VIDEOS = """\
video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,music_id,\
music_type,tag
0,441,NORMAL,2022-04-08,ShortImport,1,17200.0,720,1280,989206467,4.0,"12,65"
1,,AD,,ShortImport,1,17200.0,720,1280,989206467,4.0,
2,442,NORMAL,2022-04-01,ShortImport,1,17200.0,720,1280,989206467,4.0,8
"""
CATEGORIES = """\
final_video_id,first_level_category_id,first_level_category_name,first_level_category_prob,second_level_category_id,\
second_level_category_name,second_level_category_prob
2,7.0,Sport,0.9996,126.0,Ball games,1.0
0,3.0,Food,0.9,-124.0,UNKNOWN,0.0
99,3.0,Food,0.9,5.0,Soup,0.0
"""
CAPTIONS = (
    'final_video_id,caption,show_cover_text,duration\n0,"Noodles, by '
    'hand\n#noodles",Watch,17200.0\n'
)


def row(
    user: int, video: int, time: object, click: object, long: int = 0, played: object = 15500
) -> str:
    return f"{user},{video},20220421,400,{time},{click},0,0,0,0,0,{long},{played},17200,0,0,0,0,1\n"


STANDARD = (
    LOG + row(0, 0, 1650485801301, 1, 1) + row(0, 1, 1650485802000, 0) + row(1, 2, 1650485803000, 1)
)
RANDOM = LOG + row(1, 1, 1650585803000, 1)


def kuairand(folder: Path, standard: str = STANDARD, **further: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "log_standard_4_08_to_4_21_pure.csv").write_text(standard)
    (folder / "log_random_4_22_to_5_08_pure.csv").write_text(RANDOM)
    (folder / "video_features_basic_pure.csv").write_text(VIDEOS)
    (folder / "user_features_pure.csv").write_text("user_id\n0\n")
    for name, text in further.items():
        (folder / f"kuairand_video_{name}.csv").write_text(text)
    return folder


def test_clicks_and_videos_become_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_contract(kuairand(tmp_path / "k"), tmp_path / "out", 0.0) == {
        "items": 3,
        "interactions": 3,
    }
    assert (
        "log_standard_4_08_to_4_21_pure.csv: 1 of 3 videos were shown and not clicked"
        in capsys.readouterr().out
    )
    checked = check(read(tmp_path / "out"), [], [])
    events = checked["interactions"].clean.to_pylist()
    assert [(e["user_id"], e["item_id"], e["event"]) for e in events] == [
        ("1", "1", "click"),
        ("0", "0", "long_view"),
        ("1", "2", "click"),
    ]
    assert events[1]["timestamp"] == datetime(2022, 4, 20, 20, 16, 41, 301000, tzinfo=UTC)
    assert events[1]["dwell_seconds"] == 15.5
    items = checked["items"].clean.to_pylist()
    assert (
        [item["l1_topics"] for item in items]
        == [item["l2_topics"] for item in items]
        == [["12", "65"], [], ["8"]]
    )
    assert [item["creator_id"] for item in items] == ["441", None, "442"]
    assert [item["created_at"] for item in items[:2]] == [
        datetime(2022, 4, 7, 16, tzinfo=UTC),
        None,
    ]
    assert {item["title"] for item in items} == {""}


def test_the_further_files_give_topics_and_text(tmp_path: Path) -> None:
    folder = kuairand(tmp_path)
    bare = fingerprint(folder)
    checked = check(read(kuairand(tmp_path, categories=CATEGORIES, captions=CAPTIONS)), [], [])
    items = checked["items"].clean.to_pylist()
    assert [(item["l1_topics"], item["l2_topics"]) for item in items] == [
        (["Food"], []),
        ([], []),
        (["Sport"], ["Ball games"]),
    ]
    assert (items[0]["title"], items[0]["text"]) == ("Noodles, by hand\n#noodles", "Watch")
    assert items[2]["title"] == ""
    assert fingerprint(folder) != bare
    (folder / "user_features_pure.csv").unlink()
    assert fingerprint(kuairand(tmp_path)) == fingerprint(folder)


def test_bad_rows_are_rejected_as_written(tmp_path: Path) -> None:
    bad = (
        row(2, 0, "noon", 1)
        + row(2, 0, 1, "yes")
        + row(2, 0, 1, 1, 7)
        + row(2, 0, 2, 1, 0, "")
        + row(2, 9, 3, 1)
    )
    folder = kuairand(tmp_path, STANDARD + bad)
    (folder / "video_features_basic_pure.csv").write_text(
        VIDEOS + "3,1,NORMAL,soon,x,1,1,1,1,1,1,8\n"
    )
    checked = check(read(folder), [], [])
    rejected = {
        row["reason"]: row["content"] for row in checked["interactions"].rejected.to_pylist()
    }
    assert rejected.keys() == {
        "time_ms is not a number",
        "is_click is neither 0 nor 1",
        "long_view is neither 0 nor 1",
        "play_time_ms is not a number",
        "item_id is not among the items",
    }
    assert "noon" in rejected["time_ms is not a number"]
    assert checked["interactions"].clean.num_rows == 3
    (video,) = checked["items"].rejected.to_pylist()
    assert video["reason"] == "upload_dt is not a date"
    assert "soon" in video["content"]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (
            STANDARD.replace("time_ms", "when", 1),
            r"pure\.csv: column 'time_ms' is missing; it has user_id",
        ),
        (STANDARD + "1,2,3\n", r"pure\.csv is not readable as CSV: .*Row #5.*1,2,3"),
    ],
)
def test_a_broken_log_is_named(tmp_path: Path, log: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(kuairand(tmp_path, log))
