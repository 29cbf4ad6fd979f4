"""The catalogue of operators: `from rxllm import operators as ops`."""

if __name__ != "rxllm.operators":
    raise ImportError(f"import rxllm.operators, not {__name__}: each class would exist twice")
