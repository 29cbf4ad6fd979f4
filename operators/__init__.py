"""The catalogue of operators: `from rxllm import operators as ops`.

Each takes a stream of chunks and gives one: `stream.pipe(ops.stop_on("END"), ops.batch())`. Any of
RxPY's own operators can stand between them.
"""

if __name__ != "rxllm.operators":
    raise ImportError(f"import rxllm.operators, not {__name__}: each class would exist twice")

import importlib as _i
from rxllm.operators.analytics import *  # noqa: F403
from rxllm.operators.buffering import *  # noqa: F403
from rxllm.operators.combining import *  # noqa: F403
from rxllm.operators.controlling import *  # noqa: F403
from rxllm.operators.filtering import *  # noqa: F403
from rxllm.operators.multicasting import *  # noqa: F403
from rxllm.operators.recovery import *  # noqa: F403
from rxllm.operators.throttling import *  # noqa: F403
from rxllm.operators.transforming import *  # noqa: F403

__all__ = sorted(n for f in ['analytics', 'buffering', 'combining', 'controlling', 'filtering', 'multicasting', 'recovery', 'throttling', 'transforming'] for n in getattr(_i.import_module('rxllm.operators.'+f), '__all__', []))  # noqa: PLE0605
