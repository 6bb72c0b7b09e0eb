"""Rules by name: `method`, `method:search`, `method:search:digits`.

In Python a rule is any function from the fitting rows and the metric's text to an operating point, so that whatever
else chooses a cut can be entered beside these.
"""

from collections.abc import Callable, Iterable
from functools import partial

from calibrate.cache import FeatureCache
from calibrate.errors import InputError, UnknownMethod, shown
from calibrate.fit import fit
from calibrate.methods import METHODS, find_method
from calibrate.methods.bias_adjustment import SEARCHES
from calibrate.operating_point import OperatingPoint

Rule = Callable[[FeatureCache, str], OperatingPoint]


def named_rules(names: Iterable[str]) -> dict[str, Rule]:
    """The rules of those names, in their order.

    Raises: `UnknownMethod` for a name that is no rule; `InputError` for one that comes twice.

    >>> list(named_rules(["argmax", "logit_adjustment", "bias_adjustment:decimal:2"]))
    ['argmax', 'logit_adjustment', 'bias_adjustment:decimal:2']
    """
    rules: dict[str, Rule] = {}
    for name in names:
        if name in rules:
            raise InputError(f"rule '{name}' is named twice")
        rules[name] = named_rule(name)
    return rules


def named_rule(name: str) -> Rule:
    """The rule of that name. Raises: `UnknownMethod`."""
    method, *options = name.split(":")
    if method not in METHODS or len(options) > 2:
        raise UnknownMethod(
            f"a rule is METHOD, METHOD:SEARCH or METHOD:SEARCH:DIGITS, the method one of {', '.join(METHODS)}; "
            f"got {shown(name)}"
        )
    search = options[0] if options else None
    if search is not None and ("search" not in find_method(method).options or search not in SEARCHES):
        raise UnknownMethod(
            f"search is of bias_adjustment, and must be one of {', '.join(SEARCHES)}; got {shown(name)}"
        )
    if len(options) == 2 and not options[1].isdecimal():
        raise UnknownMethod(f"digits must be a whole number, got {shown(name)}")
    return partial(fit_named, method=method, search=search, digits=int(options[1]) if len(options) == 2 else None)


def fit_named(
    cache: FeatureCache, metric: str, *, method: str, search: str | None, digits: int | None
) -> OperatingPoint:
    """The point that `fit` finds, without its evidence. Raises: as `fit`."""
    return fit(cache, metric=metric, method=method, search=search, digits=digits, evidence=False).point
