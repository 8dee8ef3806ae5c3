"""Import this to import `tests.support`: sagemaker brings a package that is named `tests` too, and hides ours."""

import sys
from pathlib import Path
from types import ModuleType

_OURS = ModuleType("tests")
_OURS.__path__ = [str(Path(__file__).parents[1] / "tests")]
sys.modules["tests"] = _OURS
