"""Builds the viewer's page into a wheel or source archive, where npm is there to do it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Runs `npm ci` and `npm run build` in viewer/ unless the page is there already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; without it everything but `mrlift view` works."""
        root = Path(self.root)
        if version == "editable" or (root / "src/mrlift/viewer/assets/index.html").exists():
            return
        npm = shutil.which("npm")
        commands = [[npm, "ci"], [npm, "run", "build"]] if npm else []
        done = [
            subprocess.run(command, cwd=root / "viewer", capture_output=True).returncode == 0
            for command in commands
        ]
        if not done or not all(done):
            self.app.display_warning("No npm, or it failed: `mrlift view` will have no page.")
