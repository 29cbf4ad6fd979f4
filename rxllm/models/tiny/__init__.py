"""The bundled model `tiny`: its files, and the programs that made them.

Importing this package only defines a path; `build` and `evaluate` are programs.
"""

from pathlib import Path

directory: Path = Path(__file__).parent
