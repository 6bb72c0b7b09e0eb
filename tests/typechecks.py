"""How calls into the library are checked: beartype, but for `ArrayLike`, whose protocols it takes too literally."""

from typing import Any

from beartype import BeartypeConf, FrozenDict, beartype
from numpy.typing import ArrayLike

# Sequences are array-like at run time without being its protocol; whether they fit is what `to_array` finds out.
_ANYTHING: Any = {ArrayLike: object, ArrayLike | None: object}
check: Any = beartype(conf=BeartypeConf(hint_overrides=FrozenDict(_ANYTHING), is_pep484_tower=True))
