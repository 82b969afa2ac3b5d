from bench import report, site
from bench.figures import Results
from bench.rows import ROWS
from bench.targets import TARGETS

SPEED = next(row for row in ROWS if row.name == "speed")
RESULTS = Results(
    {
        "haproxy": [{"cpu": 20.0, "speed": 50_000.0, "idle": 0.3}] * 2,
        "nginx": [
            {"cpu": 30.0, "speed": 30_000.0, "idle": 0.25},
            {"cpu": 34.0, "speed": 30_000.0, "idle": 0.25},
        ],
        "stickyroute": [
            {"cpu": 30.0, "speed": 30_000.0, "idle": 0.05},
            {"cpu": 34.0, "speed": 30_000.0, "idle": 0.05},
        ],
    },
    {"envoy": "not installed"},
)


def test_a_row_shows_figures_ratios_the_idle_share_and_who_is_absent():
    assert report.row_table(SPEED, RESULTS) == [
        ["peer", "µs CPU/request", "÷ HAProxy", "requests/s", "÷ HAProxy", "load idle"],
        ["haproxy", "20.0", "1.00", "50,000", "1.00", "30%"],
        ["nginx", "32.0", "1.60 (1.50 to 1.70)", "30,000", "0.60", "25%"],
        ["stickyroute", "32.0", "void", "30,000", "void", "5% void"],
        ["envoy", "not installed", "", "", "", ""],
    ]


def test_verdicts_are_given_for_what_was_measured_only_and_void_ones_are_none():
    _, *lines = report.verdict_table({"cpu": RESULTS})
    assert [line[0] for line in lines] == [target.text for target in TARGETS if target.row == "cpu"]
    assert lines[0][-1] == "void: the load had no core left"
    assert lines[1][1:] == ["-", "≤ 0.75", "≤ 0.45", "not installed"]


def test_both_forms_hold_the_same_cells():
    table = [["peer", "µs"], ["haproxy", "1.0"]]
    assert report.text(table) == "peer     µs\nhaproxy  1.0"
    assert report.markdown(table) == "| peer | µs |\n| --- | --- |\n| haproxy | 1.0 |"


def test_the_document_holds_facts_targets_and_rows():
    text = report.document(
        ["Date: today"],
        [(SPEED, RESULTS)],
        [("Decisions", [["", "µs"], ["one", "1"]])],
        report.verdict_table({"cpu": RESULTS}),
    )
    assert "- Date: today" in text
    assert f"## {SPEED.title}" in text
    assert "## Decisions" in text
    assert text.endswith("|\n")


def test_each_target_has_its_row():
    assert {target.row for target in TARGETS} <= {*(row.name for row in ROWS), "cost", "decide"}


def test_a_small_answer_is_complete_with_its_last_byte():
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + site.ANSWER
    assert site.complete(whole)
    assert not site.complete(whole[:-1])
    assert not site.complete(whole[:20])
