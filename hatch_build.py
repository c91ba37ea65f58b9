"""What is made while the package is built, if it can be: compiled engines and the viewer's page."""

import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/mrlift/inference")
LIBRARIES = {
    "libamx.so": (
        "amx.c", "-mamx-tile", "-mamx-bf16", "-mavx512f", "-mavx512bw", "-mavx512vl",
        "-mavx512bf16", "-mfma",
    ),
    "libwinograd512.so": ("winograd.c", "-mavx512f", "-mfma"),
    "libwinograd256.so": ("winograd.c", "-mavx2", "-mfma"),
}  # fmt: skip


class CustomBuildHook(BuildHookInterface[Any]):
    """Compile the engines, and build the page in viewer/ by npm unless it is there."""

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
        folder = Path(self.root) / FOLDER
        for library in LIBRARIES:
            (folder / library).unlink(missing_ok=True)
        compiler = shutil.which("cc")
        if compiler is None or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            self.app.display_info(
                "Without the engines amx and winograd: they need Linux, x86-64 and a compiler."
            )
            return False
        made = [self._compile(compiler, folder / library) for library in LIBRARIES]
        return any(made)

    def _compile(self, compiler: str, library: Path) -> bool:
        source, *options = LIBRARIES[library.name]
        part = library.with_suffix(".part")
        command = [
            *(compiler, "-O3", "-fPIC", "-shared", *options),
            *(str(library.with_name(source)), "-o", str(part)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            self.app.display_warning(f"Without {library.name}: {done.stderr.strip()[:500]}")
            return False
        part.replace(library)
        return True
