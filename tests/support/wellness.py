"""The default app, loaded once for all tests."""

from pathlib import Path

from stillpoint.app.load import load_app

APP = load_app(str(Path(__file__).parents[2] / "feature_repo"))
