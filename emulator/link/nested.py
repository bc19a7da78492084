"""Functions that only compiled functions call: brought to LLVM's IR, and no further.

Numba makes of every function that another one calls a whole of its own: optimised, turned into machine code, with two
wrappers for callers in Python and in C. Where all is inlined into one loop nobody ever runs that code, and making it
took more than half of the time of the first start. Here such a function stays IR until it is linked into its caller,
whose optimisation then covers both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

NOWHERE = 1  # an address that nobody calls


class _Codegen:
    """Numba's, but for the environment, which only a function with code of its own can have."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def set_env(self, _name: str, _environment: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Links what its function calls, and waits to be linked itself."""

    @property
    def codegen(self) -> Any:
        return _Codegen(self._codegen)

    def get_pointer_to_function(self, _name: str) -> int:
        self._ensure_finalized()
        return NOWHERE

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _Compiler(Compiler):  # type: ignore[misc]
    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *rest: Any) -> None:
        assert library is None
        super().__init__(typingctx, targetctx, _Library(targetctx.codegen(), "nested"), *rest)


def call_nested(dispatcher: Any, function: Callable[..., Any], **options: Any) -> None:
    """Lets compiled callers of `dispatcher` have `function` as IR; Python's callers have what they had."""
    nested = numba.njit(
        pipeline_class=_Compiler, no_cpython_wrapper=True, no_cfunc_wrapper=True, cache=False, **options
    )(function)
    dispatcher.get_call_template = nested.get_call_template
    dispatcher.get_overload = nested.get_overload
