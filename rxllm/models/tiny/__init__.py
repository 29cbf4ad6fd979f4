"""The bundled model `tiny`: its files, and the package that made them.

Importing this package loads nothing but a path; `build` and `evaluate` are programs.
"""

from pathlib import Path

directory: Path = Path(__file__).parent
