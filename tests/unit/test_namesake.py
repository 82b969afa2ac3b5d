"""That children of the tests find our `tests`, whatever package of that name a dependency has installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_children_import_ours(tmp_path):
    namesake = tmp_path / "tests/__init__.py"
    namesake.parent.mkdir()
    namesake.touch()
    found = subprocess.run(
        [sys.executable, "-c", "import tests.unit.proxy.fleets as ours; print(ours.__file__)"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == ROOT / "tests/unit/proxy/fleets.py"
