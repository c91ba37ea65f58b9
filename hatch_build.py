"""What is made while the package is built: the compiled part of the engine amx."""

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
    """Compile amx.c on Linux for x86-64, where a C compiler knows AMX."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Leave the library beside its source, and give the wheel its platform's tag."""
        if self.target_name == "wheel" and self._compiled():
            build_data["pure_python"] = False
            name = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{name}"

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
