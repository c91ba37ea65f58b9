"""What is made while the package is built: the engine amx and the viewer's page, if they can be."""

import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/mrlift/inference/amx.c")
LIBRARY = SOURCE.with_name("libamx.so")
OPTIONS = (
    "-O3", "-fPIC", "-shared", "-mamx-tile", "-mamx-bf16", "-mavx512f", "-mavx512bw",
    "-mavx512vl", "-mavx512bf16", "-mfma",
)  # fmt: skip


class CustomBuildHook(BuildHookInterface[Any]):
    """Compile amx.c, and run `npm ci` and `npm run build` in viewer/ unless the page is there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Go without what cannot be made; a compiled library gives the wheel its platform's tag."""
        self._page(version)
        if self.target_name == "wheel" and self._compiled():
            build_data["pure_python"] = False
            name = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{name}"

    def _page(self, version: str) -> None:
        root = Path(self.root)
        if version == "editable" or (root / "src/mrlift/viewer/assets/index.html").exists():
            return
        npm = shutil.which("npm")
        if npm is None or not (root / "viewer").is_dir():
            self.app.display_warning("Without the page of `mrlift view`: it needs npm and viewer/.")
            return
        for command in ([npm, "ci"], [npm, "run", "build"]):
            done = subprocess.run(command, cwd=root / "viewer", capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr or done.stdout).strip()[-500:]
                self.app.display_warning(f"Without the page of `mrlift view`: {reason}")
                return

    def _compiled(self) -> bool:
        library = Path(self.root) / LIBRARY
        library.unlink(missing_ok=True)
        compiler = shutil.which("cc")
        if compiler is None or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            self.app.display_info("Without the engine amx: it needs Linux, x86-64 and a compiler.")
            return False
        part = library.with_suffix(".part")
        command = [compiler, *OPTIONS, str(Path(self.root) / SOURCE), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            self.app.display_warning(f"Without the engine amx: {done.stderr.strip()[:500]}")
            return False
        part.replace(library)
        return True
