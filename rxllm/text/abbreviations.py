"""Abbreviations that end in a full stop without ending a sentence.

They are English, German, French, Spanish, Italian and Portuguese, listed without the full stop.
Those that often end a sentence ("etc.", "Inc.", "p.m.", "usw.") are left out: the text after them
decides, as after any other word.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ABBREVIATIONS", "BEFORE_NUMBERS"]

_TITLES = """
    Adm Brig Capt Cdr Cmdr Col Cpl Dr Dra Dres Drs Fr Gen Gov Hon Hr Lic Lt Ltn Maj Mgr Mlle Mlles
    Mme Mmes Mr Mrs Ms Msgr Mx Ofc Pfc Pr Pres Prof Profa Rep Rev Sen Sens Sgt Sra Srta Sr St Ste
    Supt Hptm Ing Dipl Dott
"""

_WORDS = """
    e.g i.e viz cf vs v.s c.f approx appt dept esp resp incl excl
    z.B d.h u.a u.U o.g s.o s.u i.d.R m.E bzgl bzw ca evtl ggf inkl insb sog vgl zzgl abzgl einschl
    z.T v.a v.Chr n.Chr
    p.ej p.ex aprox núm
"""

_BEFORE_NUMBERS = """
    No no Nos nos Nr Nrn nº n p pp Pp Bd fig figs Fig Figs eq eqs Eq Eqs vol vols Vol Vols ch chap
    Ch Chap sec Sec sect Sect art Art Abs Abb Tab tab par para pt Pt Jan Feb Mar Apr Jun Jul Aug
    Sep Sept Oct Okt Nov Dec Dez
"""


def _begun_with_a_capital(words: str) -> frozenset[str]:
    """Return the words unchanged, and with a capital as at the start of a sentence."""
    return frozenset(words.split()) | {word[:1].upper() + word[1:] for word in words.split()}


ABBREVIATIONS: Final = frozenset(_TITLES.split()) | _begun_with_a_capital(_WORDS)
"""Abbreviations that never end a sentence."""

BEFORE_NUMBERS: Final = frozenset(_BEFORE_NUMBERS.split())
"""Abbreviations that don't end a sentence if a number follows."""
