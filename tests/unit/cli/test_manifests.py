import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_cli.manifests import STAYS, Folder, Key, check_secret, load, parse

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
ROUTE = (
    "apiVersion: stickyroute.dev/v1alpha1\nkind: StickyRoute\n"
    "metadata: {name: shop, namespace: team}\nspec: {}\n"
)
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
WEB = Key("Service", "default", "web")
SHOP = Key("StickyRoute", "team", "shop")
CHECKS = {"Secret": check_secret, "StickyRoute": lambda body: body["spec"].get("bad", "")}


def new_folder():
    return Folder(CHECKS, lambda manifest: manifest.key.kind == "StickyRoute")


def read(text):
    return parse(text, "a.yaml", CHECKS)


def take(folder, **files):
    contents = folder.take({f"{name}.yaml": text.encode() for name, text in files.items()})
    return contents, [str(problem) for problem in contents.problems]


def test_objects_of_several_documents_are_read_with_their_lines():
    parsed = read(f"# a comment\n{SERVICE}---\n---\n{ROUTE}---\n{DEPLOYMENT}")
    assert [(str(manifest.key), manifest.line) for manifest in parsed.manifests] == [
        ("Service default/web", 2),
        ("StickyRoute team/shop", 8),
    ]
    assert parsed.ignored == [Key("Deployment", "default", "web")]
    assert parsed.problems == []


def test_values_are_read_as_kubectl_reads_them():
    spec = "{a: 22:30, b: 0x10, c: 1.5, d: yes, e: ~, f: '1'}"
    body = read(ROUTE.replace("{}", spec)).manifests[0].body
    assert body["spec"] == {"a": "22:30", "b": 16, "c": 1.5, "d": True, "e": None, "f": "1"}


def test_a_list_is_opened():
    parsed = read(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n"
        "- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n"
    )
    assert [(manifest.key.name, manifest.line) for manifest in parsed.manifests] == [("a", 4), ("b", 7)]


def test_dates_stay_text_and_the_namespace_defaults():
    parsed = read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: 2026-11-23T12:00:00Z}\n"
    )
    assert parsed.manifests[0].body["metadata"] == {
        "name": "a",
        "namespace": "default",
        "creationTimestamp": "2026-11-23T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b: c\n", 1, "mapping values are not allowed"),
        (f"{SERVICE}---\nkind: [\n", 7, "check indentation"),
        ("a: 1\na: 2\n", 2, "the key a stands here twice"),
        ("spec:\n  retries: {on: [connect-failure]}\n", 2, "put it in quotes"),
        ("1: 2\n", 1, "a key must be text"),
        ("? [a]\n: b\n", 1, "a key must be text"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("- 1\n", 1, "not a Kubernetes object"),
        ("\n\nkind: Service\n", 3, "apiVersion is missing"),
        ("apiVersion: v1\n", 1, "kind is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", 1, "metadata.name is missing"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: 1}\n",
            1,
            "namespace must be text",
        ),
        ("apiVersion: v1\nkind: List\nitems: {}\n", 1, "items must be a list"),
        (f"{SERVICE}---\n{SERVICE}", 6, "stands twice in this file"),
        ("a:\n- \x07\n", 2, "remove it"),
        ("a: !!int x\n", 1, "'x' is not a number"),
        ("[" * 5000, 0, "simplify"),
    ],
)
def test_what_cannot_be_used_is_told_with_line_and_remedy(text, line, words):
    (problem,) = read(text).problems
    assert problem.line == line
    assert words in problem.text


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@#?, \n\t0kind"), max_size=60))
def test_no_text_raises(text):
    parsed = read(text)
    assert all(problem.text for problem in parsed.problems)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"data": {"tls.key": base64.b64encode(b"hello").decode()}}, ""),
        ({"data": {"tls.key": "aGVs\nbG8="}, "stringData": {"a": "b"}}, ""),
        ({"data": {"tls.key": "s3cr3t!"}}, "data.tls.key is not base64"),
        ({"data": {"tls.key": 7}}, "data.tls.key must be base64 text"),
        ({"data": []}, ""),
        ({"data": ["a"]}, "data must be a mapping"),
        ({"stringData": {"a": 1}}, "stringData must be"),
    ],
)
def test_a_secret_is_checked_and_its_values_are_never_told(body, words):
    trouble = check_secret(body)
    assert words in trouble
    assert bool(words) == bool(trouble)
    assert "s3cr3t" not in trouble


def test_a_file_that_breaks_keeps_its_last_good_content_and_others_go_on():
    folder = new_folder()
    take(folder, a=SERVICE, b=ROUTE)
    contents, problems = take(folder, a="a: b: c", b=ROUTE)
    assert set(contents.manifests) == {WEB, SHOP}
    assert len(problems) == 1
    assert problems[0].startswith("a.yaml:1: not YAML")
    assert STAYS in problems[0]
    contents, problems = take(folder, a=SERVICE.replace("web", "api"), b=ROUTE)
    assert set(contents.manifests) == {Key("Service", "default", "api"), SHOP}
    assert problems == []


def test_a_file_that_goes_takes_its_objects_along():
    folder = new_folder()
    take(folder, a=SERVICE, b=ROUTE)
    contents, _ = take(folder, b=ROUTE)
    assert set(contents.manifests) == {SHOP}


def test_an_unchanged_file_keeps_the_same_objects():
    folder = new_folder()
    before, _ = take(folder, a=SERVICE, b=ROUTE)
    after, _ = take(folder, a=SERVICE, b=f"# changed\n{ROUTE}")
    assert after.manifests[WEB] is before.manifests[WEB]


def test_a_bad_object_keeps_its_last_good_content_beside_good_changes():
    folder = new_folder()
    take(folder, a=f"{SERVICE}---\n{ROUTE}")
    bad = ROUTE.replace("spec: {}", "spec: {bad: 'spec.x: too short'}")
    contents, problems = take(folder, a=f"{SERVICE.replace('80', '81')}---\n{bad}")
    assert contents.manifests[SHOP].body["spec"] == {}
    assert contents.manifests[WEB].body["spec"]["ports"][0]["port"] == 81
    assert problems == [f"a.yaml:6: StickyRoute team/shop: spec.x: too short ({STAYS})"]


def test_a_route_that_was_never_good_is_passed_on_for_its_condition():
    folder = new_folder()
    bad = ROUTE.replace("spec: {}", "spec: {bad: 'spec.x: too short'}")
    for text in (bad, bad.replace("short", "long")):
        contents, problems = take(folder, a=text)
        assert contents.manifests[SHOP].body["spec"]["bad"]
        assert problems == []


def test_an_object_in_two_files_counts_once_and_both_places_are_told():
    contents, problems = take(new_folder(), a=SERVICE, b=SERVICE)
    assert contents.manifests[WEB].file == "a.yaml"
    assert problems == ["b.yaml:1: Service default/web is also in a.yaml:1, which counts: remove one of them"]


def test_an_unreadable_file_and_one_that_is_not_text_are_told(tmp_path: Path):
    folder = new_folder()
    contents = folder.take({"a.yaml": PermissionError(13, "Permission denied"), "b.yaml": b"a: 1\nb: \xff\n"})
    assert [str(problem) for problem in contents.problems] == [
        "a.yaml: cannot be read (Permission denied): check its permissions",
        "b.yaml:2: not UTF-8 text: save it as UTF-8",
    ]


def test_a_folder_is_listed_without_what_is_not_a_manifest(tmp_path: Path):
    for name in ("b.yml", "a.yaml", "c.json", ".hidden.yaml", "notes.txt", "d.yaml~"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    assert list(load(tmp_path)) == ["a.yaml", "b.yml", "c.json"]
