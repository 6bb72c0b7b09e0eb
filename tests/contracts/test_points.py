"""The life of a point on every store: states, the default and the way back, aliases, each with its audit entry."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import URL, text

from calibrate.errors import SetpointError
from service.domain import AuditEntry, Default, Model, PointRecord, PointState
from service.errors import (
    BadEvidence,
    BadName,
    BadRequest,
    Conflict,
    Forbidden,
    NotApproved,
    StorageFailed,
    UnknownAlias,
    UnknownPoint,
)
from service.points import Asked, Decide, first_state, to_alias, to_default, to_previous, to_state, without_alias
from service.storage.database import Database
from service.storage.sql import SqlStore
from tests.contracts.test_store import record, version
from tests.databases import raw

GOOD = {"metric": "f1", "evidence": {"f1": {"value": 0.8, "low": 0.7, "high": 0.9}}}


@pytest.fixture
def store(address: URL) -> Iterator[SqlStore]:
    """A store with a model of two versions, and nothing but their own rules."""
    opened = SqlStore(Database(address))
    opened.add_version(version(), "ann")
    opened.add_version(version(), "ann")
    yield opened
    opened.close()


def add(store: SqlStore, name: str = "p", state: PointState = "approved", who: str = "ann", number: int = 1) -> str:
    """Publishes a point with evidence, and gives its `name@version`."""
    details = {**GOOD, "model_digest": version().digest}
    made = replace(record(name, number), details=details, state=state, model_digest=version().digest)
    known = {point.label for point in store.model("m").points}
    return next(point.label for point in store.add_point(made, who).points if point.label not in known)


def do(store: SqlStore, decide: Decide, who: str = "ben") -> Model:
    """Makes a change."""
    return store.change("m", decide, who)


def told(store: SqlStore) -> AuditEntry:
    """The newest entry of the audit trail."""
    return store.audit(1)[0]


def why(who: str = "ben", reason: str = "because", *, override: bool = False) -> Asked:
    """A change under four eyes."""
    return Asked(who, reason, "four_eyes", override)


def refused(store: SqlStore, decide: Decide, kind: type[SetpointError], said: str) -> None:
    """A change is refused with that, and nothing of the model or the trail has moved."""
    before, entries = store.model("m"), store.audit(100)
    with pytest.raises(kind, match=said):
        do(store, decide)
    assert store.model("m") == before
    assert store.audit(100) == entries


def test_a_bare_name_is_the_latest_approved_version(store: SqlStore) -> None:
    """A draft does not answer, by whatever name; it is compared."""
    add(store), add(store, state="draft"), add(store, "new", "draft")
    model = store.model("m")
    one = model.versions[1]
    assert model.point(one, "p").label == "p@1"
    assert model.compared(one, "p").label == "p@1"
    assert model.compared(one, "p@2").label == "p@2"
    assert model.compared(one, "new").label == "new@1"
    assert model.find("new").label == "new@1"
    for reference in ("p@2", "new", "new@1"):
        with pytest.raises(NotApproved, match=r"@. is a draft, which answers once it is approved"):
            model.point(one, reference)
    with pytest.raises(UnknownPoint, match=r"only argmax@1, p@1$"):
        model.point(one, "q")


def test_a_point_is_approved_by_somebody_else_with_all_of_it_in_the_trail(store: SqlStore) -> None:
    """Who, when, from what, to what, why, the digest of the evidence, and who published it."""
    draft = add(store, state="draft")
    refused(store, to_state(draft, "approved", why("ann")), Forbidden, "ann published p@1, so somebody else")
    model = do(store, to_state(draft, "approved", why("ben", "looked at the misses")))
    found = model.point(model.versions[1], "p")
    assert (found.state, found.author, found.approved_by, found.because) == (
        "approved", "ann", "ben", "looked at the misses",
    )  # fmt: skip
    entry = told(store)
    assert (entry.actor, entry.action) == ("ben", "approve")
    assert entry.details == {
        "operating_point": "p@1",
        "from": "draft",
        "to": "approved",
        "reason": "looked at the misses",
        "evidence_digest": found.evidence_digest,
        "author": "ann",
        "approved_by": "ben",
    }
    assert len(found.evidence_digest) == 64
    assert replace(found, details={}).evidence_digest != found.evidence_digest


@pytest.mark.parametrize("who", ["local", "token", "operator"])
def test_callers_without_a_name_of_their_own_are_no_second_pair_of_eyes(store: SqlStore, who: str) -> None:
    """They neither publish nor approve, promote, point an alias or roll back."""
    approved, draft = add(store), add(store, state="draft")
    do(store, to_default(approved, why()))
    with pytest.raises(Forbidden, match="nobody in particular"):
        first_state("four_eyes", who)
    assert (first_state("four_eyes", "ann"), first_state("off", who)) == ("draft", "approved")
    for decide in (
        to_state(draft, "approved", why(who)), to_default(approved, why(who)), to_alias("a", approved, why(who)),
        to_previous(why(who)),
    ):  # fmt: skip
        refused(store, decide, Forbidden, "tells people apart by the names of their API keys")


def test_a_staged_versions_own_rule_is_a_draft_under_four_eyes(store: SqlStore) -> None:
    """Somebody else than who registered it approves it and makes it the default; of a first version it answers."""
    store.add_version(version(), "ann", "draft")
    assert store.add_version(version("n"), "ann", "draft").exact("argmax@1").state == "approved"
    refused(store, to_default("argmax@3", why("ben")), NotApproved, "argmax@3 is a draft")
    refused(store, to_state("argmax@3", "approved", why("ann")), Forbidden, "ann published argmax@3")
    refused(store, to_state("argmax@3", "shadow", why("ben")), Conflict, "cannot be made 'shadow'")
    do(store, to_state("argmax@3", "approved", why("ben")))
    refused(store, to_state("argmax@3", "approved", why("ben")), Conflict, "argmax@3 is approved")
    refused(store, to_default("argmax@3", why("ann")), Forbidden, "ann published argmax@3")
    assert do(store, to_default("argmax@3", why("ben"))).default.model_version == 3


@pytest.mark.parametrize("state", ["retired", "shadow"])
def test_an_older_point_takes_a_name_over_only_by_who_may_approve_it(store: SqlStore, state: PointState) -> None:
    """Where none is older, nothing answers in its place and anybody may who may retire; a draft takes nothing over."""
    older, newer = add(store, who="ann"), add(store, who="ben")
    for asked, said in (
        (why("ann"), "ann published p@1"),
        (why("token"), "nobody in particular"),
        (replace(why("eve"), may_approve=False), "the name 'p' leads to p@1: eve needs the scope 'approve'"),
        (Asked("eve", "because", may_approve=False), "needs the scope 'approve'"),
    ):
        refused(store, to_state(newer, state, asked), Forbidden, said)
    model = do(store, to_state(newer, state, why("ben")))
    assert model.point(model.versions[1], "p").label == older
    assert told(store).details["answers_now"] == older
    add(store, state="draft")
    model = do(store, to_state(older, state, replace(why("token"), may_approve=False)))
    assert model.answering(1, "p") is None
    assert "answers_now" not in told(store).details


def test_the_author_neither_promotes_nor_aliases_nor_rolls_back_to_a_point(store: SqlStore) -> None:
    """With four eyes; without, everybody may who may at all."""
    mine, other = add(store, who="ann"), add(store, "q", who="ben")
    for decide in (to_default(mine, why("ann")), to_alias("a", mine, why("ann"))):
        refused(store, decide, Forbidden, "ann published p@1")
    do(store, to_default(mine, why("ben")))
    do(store, to_default(other, why("ann")))
    refused(store, to_previous(why("ann")), Forbidden, "ann published p@1")
    assert do(store, to_previous(why("ben"))).default.label == mine
    assert do(store, to_default(mine, Asked("ann", "x"))).default.label == mine


@pytest.mark.parametrize("state", ["draft", "shadow", "retired"])
def test_what_is_not_approved_becomes_neither_default_nor_alias(store: SqlStore, state: PointState) -> None:
    """Not even with an override."""
    label = add(store, state=state)
    for decide in (to_default(label, why(override=True)), to_alias("a", label, why(override=True))):
        refused(store, decide, NotApproved, "^p@1 is")


def test_a_retired_point_is_refused_by_name_with_the_reason(store: SqlStore) -> None:
    """Also in a comparison; it comes back by way of the shadow and an approval."""
    label = add(store)
    model = do(store, to_state(label, "retired", why(reason="the terminals changed")))
    one = model.versions[1]
    for ask in (model.point, model.compared):
        for reference in ("p", "p@1"):
            with pytest.raises(NotApproved, match="p@1 is retired: the terminals changed"):
                ask(one, reference)
    refused(store, to_state(label, "approved", why()), Conflict, "p@1 is retired: .* cannot be made 'approved'")
    assert do(store, to_state(label, "shadow", why())).shadows(one)[0].label == label
    assert do(store, to_state(label, "approved", why())).point(one, "p").label == label
    assert [entry.action for entry in store.audit(3)] == ["approve", "shadow", "retire"]


@pytest.mark.parametrize("state", ["shadow", "retired"])
def test_what_answers_under_the_default_or_an_alias_does_not_stop_to(store: SqlStore, state: PointState) -> None:
    """First that is moved."""
    label = add(store)
    do(store, to_default(label, why()))
    do(store, to_alias("a", label, why()))
    refused(store, to_state(label, state, why()), Conflict, "p@1 is the default of model 'm'")
    do(store, to_previous(Asked("ben", "back")))
    refused(store, to_state(label, state, why()), Conflict, "alias 'a' leads to p@1")
    do(store, without_alias("a", why()))
    assert do(store, to_state(label, state, why())).exact(label).state == state


def test_the_models_own_rule_is_always_approved(store: SqlStore) -> None:
    """And states are changed by exact names only."""
    refused(store, to_state("argmax@1", "retired", why()), Conflict, "the model's own rule")
    add(store)
    refused(store, to_state("p", "retired", why()), UnknownPoint, "with its version, as p@")


def test_rolling_back_walks_back_step_by_step(store: SqlStore) -> None:
    """Never forth and back between two; what was undone is forgotten, a move to where it was is no step."""
    a, b, c, d = (add(store, name) for name in "abcd")
    for label in (a, b, b, c):
        do(store, to_default(label, why()))
    assert store.model("m").previous == Default(1, "b", 1)
    seen = [do(store, to_previous(Asked("ann", "worse"))).default.label for _ in range(2)]
    assert seen == [b, a]
    assert told(store).action == "roll back"
    assert told(store).details["from"] == {"model_version": 1, "operating_point": "b@1"}
    assert told(store).details["to"] == {"model_version": 1, "operating_point": "a@1"}
    do(store, to_default(d, why()))
    assert [do(store, to_previous(Asked("ann", "worse"))).default.label for _ in range(2)] == [a, "argmax@1"]
    assert store.model("m").previous is None
    refused(store, to_previous(why()), Conflict, "argmax@1 is the first default of model 'm'")


def test_a_rollback_to_what_no_longer_answers_says_so(store: SqlStore) -> None:
    """Nothing older is taken in its place unasked."""
    a, b = add(store, "a"), add(store, "b")
    do(store, to_default(a, why()))
    do(store, to_default(b, why()))
    do(store, to_state(a, "retired", why(reason="misses cards")))
    refused(store, to_previous(why()), Conflict, "was a@1 before, but a@1 is retired: misses cards")


def test_a_change_is_refused_where_another_came_first(store: SqlStore) -> None:
    """The default, the way back and an alias, each by what the caller saw."""
    a, b = add(store, "a"), add(store, "b")
    do(store, to_default(a, why(), expected="argmax@1"))
    refused(store, to_default(b, why(), expected="argmax@1"), Conflict, "is a@1 by now, not argmax@1")
    refused(store, to_previous(why(), expected="b@1"), Conflict, "is a@1 by now, not b@1")
    refused(store, to_previous(why(), seen=Default(1, "b", 1)), Conflict, "has moved meanwhile")
    do(store, to_alias("x", a, why()))
    refused(store, to_alias("x", b, why(), expected=b), Conflict, "leads to a@1, not b@1")
    refused(store, to_alias("y", b, why(), expected=a), Conflict, "leads to nothing, not a@1")
    assert do(store, to_alias("x", b, why(), expected=a)).aliases == {"x": b}


def test_an_alias_leads_to_one_point_wherever_a_name_may_stand(store: SqlStore) -> None:
    """The point that is found has its own name."""
    label, other = add(store), add(store, "q", number=2)
    model = do(store, to_alias("prod", "p", why(reason="for the terminals")))
    assert told(store).details["from"] is None
    assert (told(store).action, told(store).details["alias"], told(store).details["to"]) == ("set alias", "prod", label)
    one, two = model.versions[1], model.versions[2]
    assert model.point(one, "prod").label == model.compared(one, "prod").label == model.find("prod").label == label
    add(store)
    assert store.model("m").point(one, "prod").label == label  # not p@2
    with pytest.raises(UnknownPoint, match="'prod' is p@1, which is of version 1 of model 'm', not of version 2"):
        model.point(two, "prod")
    assert do(store, to_alias("prod", other, why())).point(two, "prod").label == other
    assert do(store, without_alias("prod", why())).aliases == {}
    assert (told(store).details["from"], told(store).details["to"]) == (other, None)
    refused(store, without_alias("prod", why()), UnknownAlias, "no alias 'prod', only none")


def test_an_alias_and_a_point_never_share_a_name(store: SqlStore) -> None:
    """Whichever comes second is refused; an alias is a name like any other."""
    label = add(store)
    for alias in ("p", "argmax"):
        refused(store, to_alias(alias, label, why()), Conflict, "is the name of an operating point")
    do(store, to_alias("prod", label, why()))
    with pytest.raises(Conflict, match="'prod' is an alias of model 'm'"):
        add(store, "prod")
    for alias in ("p@1", "", "../x"):
        with pytest.raises(BadName):
            to_alias(alias, label, why())


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_every_change_needs_a_reason(reason: str) -> None:
    """Of 1 to 1,000 characters."""
    with pytest.raises(BadRequest, match="reason must say in 1 to 1000 characters why"):
        Asked("ann", reason)


def test_evidence_that_breaks_a_constraint_stops_a_point_unless_it_is_overridden(store: SqlStore) -> None:
    """What was wanted and what was found is told, and kept with the override."""
    recall = {"value": 0.85, "low": 0.8, "high": 0.9, "rows": 60, "kind": "held_out"}
    details = {"metric": "f1", "constraints": ["recall >= 0.9"], "evidence": {"recall": recall}}
    label = store.add_point(replace(record(), details=details), "ann").points[-1].label
    said = r"wanted recall >= 0.9, found 0.85 \[0.8, 0.9\] \(held-out, 60 rows\)"
    for decide in (to_default(label, why()), to_alias("a", label, why()), to_default(label, Asked("ann", "x"))):
        refused(store, decide, BadEvidence, said)
    model = do(store, to_default(label, why(reason="the board said so", override=True)))
    assert model.default.label == label
    assert told(store).details["overridden"] == ["wanted recall >= 0.9, found 0.85 [0.8, 0.9] (held-out, 60 rows)"]
    assert told(store).details["reason"] == "the board said so"


def test_a_point_without_evidence_is_a_doubt_or_with_four_eyes_refused(store: SqlStore) -> None:
    """What was published without a fit still becomes the default, and the trail says that nothing speaks for it."""
    label = store.add_point(replace(record(), details={}, state="draft"), "ann").points[-1].label
    refused(store, to_state(label, "approved", why()), BadEvidence, "speaks against it: it has no evidence")
    do(store, to_state(label, "approved", Asked("ben", "ok")))
    assert told(store).details["warnings"] == ["it has no evidence"]
    refused(store, to_default(label, why()), BadEvidence, "it has no evidence")
    assert do(store, to_default(label, Asked("ann", "x"))).default.label == label
    assert told(store).details["warnings"] == ["it has no evidence"]


def test_publishing_and_promoting_are_one_step(store: SqlStore) -> None:
    """What the promotion refuses is not published either."""

    def refuse(model: Model, record: PointRecord) -> None:
        assert model.exact(record.label) == record
        raise Conflict("no")

    before = store.audit(10)
    with pytest.raises(Conflict):
        store.add_point(record(), "ann", refuse)  # type: ignore[arg-type]
    assert [point.name for point in store.model("m").points] == ["argmax", "argmax"]
    assert store.audit(10) == before


def test_a_point_of_another_model_file_answers_nowhere(store: SqlStore, address: URL) -> None:
    """However it got into the store."""
    label = add(store)
    do(store, to_default(label, why()))
    change = "UPDATE operating_points SET model_digest = 'feed' WHERE name = 'p'"
    raw(address, lambda connection: connection.execute(text(change)))
    model = store.model("m")
    asks: list[Callable[[], object]] = [
        lambda: model.point(model.versions[1], None),
        lambda: model.point(model.versions[1], "p@1"),
        lambda: model.compared(model.versions[1], "p@1"),
    ]
    for ask in asks:
        with pytest.raises(StorageFailed, match=r"p@1 was made for another file .* is feed, the model's aaaa"):
            ask()
    assert model.point(model.versions[1], "argmax").label == "argmax@1"


def test_the_trail_is_told_page_by_page_and_by_model(store: SqlStore) -> None:
    """Before a number, the newest first."""
    store.add_version(version("n"), "ann")
    add(store)
    numbers = [entry.number for entry in store.audit(2, before=4)]
    assert numbers == [3, 2]
    assert [entry.model for entry in store.audit(10, frozenset({"n"}))] == ["n"]
    assert [entry.number for entry in store.audit(10, frozenset({"m"}), before=3)] == [2, 1]
    assert store.audit(10, frozenset()) == []
